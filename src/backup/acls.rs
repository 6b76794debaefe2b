//! Captured ACLs on their way to a cluster: planned first, then added. Nothing is taken away.

use serde::Serialize;

use super::capture::Part;
use crate::client::{ClientError, Cluster};
use crate::plan::{AclBinding, AclRestorePlan, AclScope, plan_acl_restore};

/// What a restore does about ACLs, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AclsRestore {
    /// What is to be created, is there, and is left out.
    #[serde(flatten)]
    pub plan: AclRestorePlan,
    /// Why nothing is planned, or not all is known; `None`: all is.
    pub unavailable: Option<String>,
    /// Those that were created.
    pub created: Vec<AclBinding>,
    /// Those that the cluster refused.
    pub refused: Vec<RefusedAcl>,
}

/// An ACL that a cluster refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedAcl {
    /// It.
    pub acl: AclBinding,
    /// In the words of the cluster.
    pub error: String,
}

/// What is to be created on the cluster of these captured ACLs; changes nothing. Where the cluster does not tell its ACLs, all
/// of them count as missing: one that is there already stays as it is.
///
/// # Errors
/// The cluster does not answer.
pub async fn plan_acls(
    cluster: &Cluster,
    captured: &Part<AclBinding>,
    scope: AclScope<'_>,
) -> Result<AclsRestore, ClientError> {
    let (there, unavailable) = match cluster.acl_bindings().await {
        Ok(Some(acls)) => (acls, captured.unavailable.clone()),
        Ok(None) => {
            let reason = format!("cluster {} has no authorizer: everybody may do everything there", cluster.name());
            return Ok(AclsRestore { unavailable: Some(reason), ..AclsRestore::default() });
        }
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let plan = plan_acl_restore(&captured.entries, &there, scope);
    Ok(AclsRestore { plan, unavailable, ..AclsRestore::default() })
}

/// Creates what is planned. Said again, it changes nothing.
///
/// # Errors
/// The cluster does not answer; some of them may have been created.
pub async fn restore_acls(cluster: &Cluster, restore: &mut AclsRestore) -> Result<(), ClientError> {
    let refused = cluster.create_acls(&restore.plan.create).await?;
    let is_refused = |acl: &&AclBinding| refused.iter().any(|(other, _)| other == *acl);
    restore.created = restore.plan.create.iter().filter(|acl| !is_refused(acl)).cloned().collect();
    restore.refused = refused.into_iter().map(|(acl, error)| RefusedAcl { acl, error: error.to_string() }).collect();
    Ok(())
}
