//! Figures of all runs of a load, and how far they lie apart.

use serde::Serialize;

use crate::load::{Filled, Load};
use crate::peer::Peer;
use crate::spread::{Spread, number};

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
    /// It says something about the run, not about who ran.
    Neither,
}

/// One value of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// In the JSON, unique within a load.
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(key: &'static str, label: &'static str, unit: &'static str, better: Better, value: f64) -> Self {
        Self { key, label, unit, better, value }
    }
}

/// Figures of a run, or how far it came within its limit.
pub(crate) type Outcome = Result<Vec<Figure>, String>;

/// One figure over all rounds.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Its value is that of the run that named it first.
    pub(crate) figure: Figure,
    /// By peer, in the order of [`Peer::ALL`]: round and value.
    values: [Vec<(u32, f64)>; 2],
}

/// MirrorMaker 2 ÷ kmirror.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ratio {
    /// Of the two medians.
    pub(crate) of_medians: f64,
    /// Of the two values of each round.
    pub(crate) by_round: Spread,
}

impl Row {
    /// A peer's values, in the order of its rounds.
    pub(crate) fn values(&self, peer: Peer) -> Vec<f64> {
        self.values[peer as usize].iter().map(|(_, value)| *value).collect()
    }

    pub(crate) fn spread(&self, peer: Peer) -> Option<Spread> {
        Spread::of(self.values(peer))
    }

    /// None where one of them has no value, or kmirror's is zero.
    pub(crate) fn ratio(&self) -> Option<Ratio> {
        let [ours, theirs] = &self.values;
        let pairs = ours.iter().filter_map(|(round, our)| {
            let (_, their) = theirs.iter().find(|(other, _)| other == round)?;
            (*our > 0.0).then_some(their / our)
        });
        let by_round = Spread::of(pairs)?;
        let of_medians = self.spread(Peer::MirrorMaker2)?.median / self.spread(Peer::Kmirror)?.median;
        of_medians.is_finite().then_some(Ratio { of_medians, by_round })
    }
}

/// All runs of a load.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) load: Load,
    /// What the load consists of.
    pub(crate) shape: String,
    pub(crate) filled: Filled,
    pub(crate) rows: Vec<Row>,
    /// What kept a run from having figures.
    pub(crate) notes: Vec<String>,
}

impl Results {
    pub(crate) fn new(load: Load, factor: f64, filled: &Filled) -> Self {
        Self { load, shape: load.shape(factor), filled: filled.clone(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Takes in a run, and says on stderr what it brought.
    pub(crate) fn add(&mut self, peer: Peer, round: u32, outcome: Outcome) {
        let who = format!("{} round {}, {}", self.load.name(), round + 1, peer.name());
        match outcome {
            Ok(figures) => {
                let said: Vec<String> =
                    figures.iter().map(|f| format!("{} {} {}", f.label, number(f.value), f.unit)).collect();
                eprintln!("{who}: {}", said.join("; "));
                figures.into_iter().for_each(|figure| self.take(peer, round, figure));
            }
            Err(missed) => {
                eprintln!("{who}: {missed}");
                self.notes.push(format!("{}, round {}: {missed}", peer.name(), round + 1));
            }
        }
    }

    fn take(&mut self, peer: Peer, round: u32, figure: Figure) {
        let at = self.rows.iter().position(|row| row.figure.key == figure.key).unwrap_or_else(|| {
            self.rows.push(Row { figure, values: [Vec::new(), Vec::new()] });
            self.rows.len() - 1
        });
        self.rows[at].values[peer as usize].push((round, figure.value));
    }
}
