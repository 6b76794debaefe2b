//! The pure parts of the data path as pieces of work, to be timed (`micro`) or counted (`instructions`).

mod batches;
mod groups;
mod map;
mod mirror;
mod state;
mod wire;

/// Prepared work, to be done once.
pub(crate) type Run = Box<dyn FnOnce()>;

/// A piece of work. Whatever does not belong to it happens in `prepare`.
pub(crate) struct Work {
    pub(crate) name: String,
    /// What it is done to, and how many of those a run does.
    pub(crate) unit: &'static str,
    pub(crate) units: u32,
    /// Made when the work is chosen: some of them need much.
    pub(crate) make: Box<dyn Fn() -> Prepare>,
}

pub(crate) type Prepare = Box<dyn FnMut() -> Run>;

/// All work whose name contains one of these words; no words: all there is.
pub(crate) fn chosen(words: &[String]) -> Vec<Work> {
    let all =
        [batches::all(), mirror::all(), map::all(), groups::all(), state::all(), wire::all()].into_iter().flatten();
    all.filter(|work| words.is_empty() || words.iter().any(|word| work.name.contains(word))).collect()
}

impl Work {
    fn new<P: FnMut() -> R + 'static, R: FnOnce() + 'static>(
        name: String,
        (units, unit): (u32, &'static str),
        make: impl Fn() -> P + 'static,
    ) -> Self {
        let make = move || {
            let mut prepare = make();
            Box::new(move || Box::new(prepare()) as Run) as Prepare
        };
        Self { name, unit, units, make: Box::new(make) }
    }
}
