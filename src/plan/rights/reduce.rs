//! The least set: nothing said twice, nothing that another right of it implies.

use super::Right;

/// Of these rights of one principal on one cluster those that are needed: what another one covers, by its names and by what its
/// operation implies, is added to that one.
#[must_use]
pub fn reduce(rights: Vec<Right>) -> Vec<Right> {
    let mut least: Vec<Right> = Vec::new();
    for right in rights {
        match least.iter_mut().find(|there| covers(there, &right)) {
            Some(there) => there.take(right),
            None => {
                let mut right = right;
                let (covered, rest) = least.into_iter().partition(|there| covers(&right, there));
                least = rest;
                let covered: Vec<Right> = covered;
                covered.into_iter().for_each(|other| right.take(other));
                least.push(right);
            }
        }
    }
    least.sort_by(|a, b| {
        (a.resource, &a.pattern.name, a.pattern.is_prefix, a.operation).cmp(&(
            b.resource,
            &b.pattern.name,
            b.pattern.is_prefix,
            b.operation,
        ))
    });
    least
}

fn covers(one: &Right, other: &Right) -> bool {
    one.resource == other.resource && one.operation.implies(other.operation) && one.pattern.covers(&other.pattern)
}

impl Right {
    /// What the other was needed for, this one is needed for as well.
    fn take(&mut self, other: Self) {
        for command in other.commands {
            if !self.commands.contains(&command) {
                self.commands.push(command);
            }
        }
        self.commands.sort_unstable();
        if !self.why.contains(&other.why) {
            self.why = format!("{}; {}", self.why, other.why);
        }
        // Something fails without one of them.
        if other.without.is_none() {
            self.without = None;
        }
    }
}
