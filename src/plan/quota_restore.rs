//! Which client quotas that were captured a restore adds to a cluster, and which SCRAM users it cannot bring.
//!
//! Only additions: whoever has a quota on the cluster keeps it, whatever it says; where it says something else, that is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The quotas of one entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// Whose.
    pub entity: Vec<QuotaEntity>,
    /// Quota, such as `producer_byte_rate`, and its value.
    pub values: BTreeMap<String, f64>,
}

/// A part of what a quota is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaEntity {
    /// `user`, `client-id` or `ip`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name; `null`: the default of this type.
    pub name: Option<String>,
}

impl Quota {
    /// Its parts in an order that does not depend on who tells them.
    fn key(&self) -> BTreeSet<&QuotaEntity> {
        self.entity.iter().collect()
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.entity.iter().map(ToString::to_string).collect();
        let values: Vec<String> = self.values.iter().map(|(quota, value)| format!("{quota}={value}")).collect();
        write!(f, "{}: {}", parts.join(", "), values.join(", "))
    }
}

impl std::fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}", self.kind),
            None => write!(f, "{} (default)", self.kind),
        }
    }
}

/// What a restore does about quotas.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct QuotaRestorePlan {
    /// To be created.
    pub create: Vec<Quota>,
    /// There already, and the same.
    pub there: usize,
    /// There already, and otherwise: they stay as they are.
    pub differing: Vec<QuotaDifference>,
}

/// An entity with other quotas than it had.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuotaDifference {
    /// What was captured.
    pub captured: Quota,
    /// What the cluster has.
    pub found: Quota,
}

/// Which of these captured quotas are to be created where these are there.
#[must_use]
pub fn plan_quota_restore(captured: &[Quota], there: &[Quota]) -> QuotaRestorePlan {
    let mut plan = QuotaRestorePlan::default();
    for quota in captured.iter().filter(|quota| !quota.values.is_empty()) {
        match there.iter().find(|other| other.key() == quota.key()) {
            None => plan.create.push(quota.clone()),
            Some(found) if found.values == quota.values => plan.there += 1,
            Some(found) => plan.differing.push(QuotaDifference { captured: quota.clone(), found: found.clone() }),
        }
    }
    plan
}

/// A SCRAM credential as a cluster tells it: user, mechanism by Kafka's name, iterations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScramCredential {
    /// User name.
    pub user: String,
    /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// Iterations.
    pub iterations: i32,
}

/// A user who could log in on the source and cannot on the target: a cluster tells no secret of its users, so nobody else can create them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingUser {
    /// User name.
    pub user: String,
    /// What is missing of its credentials.
    pub mechanisms: Vec<ScramCredential>,
    /// What creates it, with PASSWORD in place of the password.
    pub command: String,
}

/// Users and mechanisms that a cluster lacks. `bootstrap` is where its tools reach it.
#[must_use]
pub fn missing_users(captured: &[ScramCredential], there: &[ScramCredential], bootstrap: &str) -> Vec<MissingUser> {
    let is_there = |wanted: &ScramCredential| {
        there.iter().any(|found| (&found.user, &found.mechanism) == (&wanted.user, &wanted.mechanism))
    };
    let mut missing: BTreeMap<&str, Vec<ScramCredential>> = BTreeMap::new();
    for credential in captured.iter().filter(|credential| !is_there(credential)) {
        missing.entry(&credential.user).or_default().push(credential.clone());
    }
    let user = |(user, mechanisms): (&str, Vec<ScramCredential>)| MissingUser {
        user: user.to_owned(),
        command: command(user, &mechanisms, bootstrap),
        mechanisms,
    };
    missing.into_iter().map(user).collect()
}

fn command(user: &str, mechanisms: &[ScramCredential], bootstrap: &str) -> String {
    let config = |one: &ScramCredential| format!("{}=[iterations={},password=PASSWORD]", one.mechanism, one.iterations);
    let configs: Vec<String> = mechanisms.iter().map(config).collect();
    format!(
        "kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type users --entity-name {} --add-config {}",
        quoted(user),
        quoted(&configs.join(","))
    )
}

/// For a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@:/".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(entity: &[(&str, Option<&str>)], rate: f64) -> Quota {
        let part =
            |(kind, name): &(&str, Option<&str>)| QuotaEntity { kind: (*kind).into(), name: name.map(Into::into) };
        Quota { entity: entity.iter().map(part).collect(), values: [("producer_byte_rate".to_owned(), rate)].into() }
    }

    #[test]
    fn what_is_there_stays_and_what_is_missing_is_added() {
        let (alice, bob) = (("user", Some("alice")), ("user", Some("bob")));
        let (by_default, client) = (("user", None), ("client-id", Some("etl")));
        let captured =
            [quota(&[alice], 1.0), quota(&[bob], 2.0), quota(&[by_default], 3.0), quota(&[alice, client], 4.0)];
        // In another order it is the same entity; the default is nobody's name.
        let there = [quota(&[client, alice], 4.0), quota(&[bob], 5.0), quota(&[("user", Some(""))], 3.0)];
        let plan = plan_quota_restore(&captured, &there);
        assert_eq!(plan.create, [captured[0].clone(), captured[2].clone()]);
        assert_eq!(plan.there, 1);
        let differing = QuotaDifference { captured: captured[1].clone(), found: there[1].clone() };
        assert_eq!(plan.differing, [differing]);
        assert_eq!(captured[2].to_string(), "user (default): producer_byte_rate=3");
    }

    #[test]
    fn another_quota_of_the_same_entity_is_a_difference() {
        let mut more = quota(&[("ip", None)], 1.0);
        more.values.insert("connection_creation_rate".to_owned(), 7.0);
        let plan = plan_quota_restore(std::slice::from_ref(&more), &[quota(&[("ip", None)], 1.0)]);
        assert_eq!((plan.create.len(), plan.differing.len()), (0, 1));
        let nothing = Quota { values: BTreeMap::new(), ..more };
        assert_eq!(plan_quota_restore(&[nothing], &[]), QuotaRestorePlan::default());
    }

    #[test]
    fn users_without_their_credential_are_named_with_the_command() {
        let scram = |user: &str, mechanism: &str| ScramCredential {
            user: user.into(),
            mechanism: mechanism.into(),
            iterations: 4096,
        };
        let captured = [scram("al", "SCRAM-SHA-256"), scram("al", "SCRAM-SHA-512"), scram("o'b", "SCRAM-SHA-256")];
        let missing = missing_users(&captured, &[scram("al", "SCRAM-SHA-256")], "h:1");
        assert_eq!(missing.iter().map(|user| user.user.as_str()).collect::<Vec<_>>(), ["al", "o'b"]);
        assert_eq!(
            missing[0].command,
            "kafka-configs.sh --bootstrap-server h:1 --alter --entity-type users --entity-name al --add-config \
             'SCRAM-SHA-512=[iterations=4096,password=PASSWORD]'"
        );
        assert!(missing[1].command.contains(r"--entity-name 'o'\''b' "), "{}", missing[1].command);
        assert_eq!(missing_users(&captured, &captured, "h:1"), []);
    }
}
