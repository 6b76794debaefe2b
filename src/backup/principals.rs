//! Captured quotas and SCRAM users on their way to a cluster: quotas are planned first, then added; users can only be named, for no
//! cluster tells their secrets.

use serde::Serialize;

use super::capture::{CapturedQuota, CapturedScramUser, Part, captured_quotas, captured_user};
use crate::client::{ClientError, ClientQuota, Cluster, QuotaChange};
use crate::plan::{MissingUser, Quota, QuotaRestorePlan, ScramCredential, missing_users, plan_quota_restore};

/// What a restore does about quotas, and what came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct QuotasRestore {
    /// What is to be created, is there, and stays as it is.
    #[serde(flatten)]
    pub plan: QuotaRestorePlan,
    /// Why nothing is planned, or not all is known; `None`: all is.
    pub unavailable: Option<String>,
    /// Those that were created.
    pub created: Vec<Quota>,
    /// Those that the cluster refused.
    pub refused: Vec<RefusedQuota>,
}

/// A quota that a cluster refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefusedQuota {
    /// It.
    pub quota: Quota,
    /// In the words of the cluster.
    pub error: String,
}

/// SCRAM users that the target lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct UsersRestore {
    /// Them, with the command that creates each.
    pub missing: Vec<MissingUser>,
    /// Why they are not known; `None`: they are.
    pub unavailable: Option<String>,
}

/// What is to be created on the cluster of these captured quotas; changes nothing. Where it does not tell its quotas nothing is: what is
/// there would be written over.
///
/// # Errors
/// The cluster does not answer.
pub async fn plan_quotas(cluster: &Cluster, captured: &Part<CapturedQuota>) -> Result<QuotasRestore, ClientError> {
    let there = match cluster.client_quotas().await {
        Ok(quotas) => captured_quotas(Ok(quotas)).entries,
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => return Ok(QuotasRestore { unavailable: Some(error.to_string()), ..QuotasRestore::default() }),
    };
    let plan = plan_quota_restore(&captured.entries, &there);
    Ok(QuotasRestore { plan, unavailable: captured.unavailable.clone(), ..QuotasRestore::default() })
}

/// Creates what is planned. Said again, it changes nothing.
///
/// # Errors
/// The cluster does not answer; some of them may have been created.
pub async fn restore_quotas(cluster: &Cluster, restore: &mut QuotasRestore) -> Result<(), ClientError> {
    let wanted: Vec<QuotaChange> = restore.plan.create.iter().map(to_client).collect();
    let refused = cluster.change_client_quotas(&wanted).await?;
    for (quota, wanted) in restore.plan.create.iter().zip(&wanted) {
        match refused.iter().find(|(other, _)| other == wanted) {
            None => restore.created.push(quota.clone()),
            Some((_, error)) => {
                restore.refused.push(RefusedQuota { quota: quota.clone(), error: error.to_string() });
            }
        }
    }
    Ok(())
}

fn to_client(quota: &Quota) -> QuotaChange {
    let entity = quota.entity.iter().map(|part| (part.kind.clone(), part.name.clone())).collect();
    ClientQuota { entity, values: quota.values.clone() }.into()
}

/// Captured users that the cluster lacks.
///
/// # Errors
/// The cluster does not answer.
pub async fn plan_users(
    cluster: &Cluster,
    captured: &Part<CapturedScramUser>,
    bootstrap: &str,
) -> Result<UsersRestore, ClientError> {
    let unavailable = |why: String| UsersRestore { missing: Vec::new(), unavailable: Some(why) };
    if let (true, Some(why)) = (captured.entries.is_empty(), &captured.unavailable) {
        return Ok(unavailable(why.clone()));
    }
    let there = match cluster.scram_users().await {
        Ok(users) => users.into_iter().map(captured_user).collect::<Vec<_>>(),
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => return Ok(unavailable(error.to_string())),
    };
    let missing = missing_users(&credentials(&captured.entries), &credentials(&there), bootstrap);
    Ok(UsersRestore { missing, unavailable: captured.unavailable.clone() })
}

fn credentials(users: &[CapturedScramUser]) -> Vec<ScramCredential> {
    let of = |user: &CapturedScramUser| {
        let name = user.user.clone();
        let credential = move |one: &super::capture::CapturedMechanism| ScramCredential {
            user: name.clone(),
            mechanism: one.mechanism.clone(),
            iterations: one.iterations,
        };
        user.mechanisms.iter().map(credential).collect::<Vec<_>>()
    };
    users.iter().flat_map(of).collect()
}
