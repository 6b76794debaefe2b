//! The counts to compare with, and with which tools they were made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

const HEAD: &str = "# Instructions, unit, name. Written by `cargo bench --bench instructions -- --accept` with:\n# ";

/// What is known of each work, by name: unit and instructions for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Baseline {
    tools: String,
    counts: BTreeMap<String, (String, f64)>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Finding {
    New,
    /// Within the tolerance; per cent.
    Same(f64),
    Better(f64),
    Worse(f64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Same(change) => write!(f, "{change:+.1} %"),
            Self::Better(change) => write!(f, "{change:+.1} %  better"),
            Self::Worse(change) => write!(f, "{change:+.1} %  WORSE"),
        }
    }
}

/// What counts depend on.
pub(crate) fn tools() -> anyhow::Result<String> {
    let version = |program: &str| -> anyhow::Result<String> {
        let out =
            Command::new(program).arg("--version").output().with_context(|| format!("running {program} --version"))?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    Ok(format!("{}, {}, {}", version("rustc")?, version("valgrind")?, std::env::consts::ARCH))
}

impl Baseline {
    /// What the file says; nothing where there is none.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let tools = text.strip_prefix(HEAD).and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned();
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (count, unit) =
                words.next().zip(words.next()).with_context(|| format!("{}: {line}", file.display()))?;
            let count = count.parse().with_context(|| format!("{}: {line}", file.display()))?;
            counts.insert(words.collect::<Vec<_>>().join(" "), (unit.to_owned(), count));
        }
        Ok(Self { tools, counts })
    }

    pub(crate) fn is_of(&self, tools: &str) -> bool {
        self.tools == tools
    }

    pub(crate) fn not_comparable(&self, tools: &str) -> String {
        format!("other compiler: not comparable\n  file: {}\n  here: {tools}", self.tools)
    }

    pub(crate) fn compare(&self, name: &str, count: f64, tolerance: f64) -> Finding {
        let Some((_, before)) = self.counts.get(name) else { return Finding::New };
        let change = (count / before - 1.0) * 100.0;
        match change {
            change if change > tolerance => Finding::Worse(change),
            change if change < -tolerance => Finding::Better(change),
            change => Finding::Same(change),
        }
    }

    pub(crate) fn set(&mut self, name: &str, unit: &str, count: f64) {
        self.counts.insert(name.to_owned(), (unit.to_owned(), count));
    }

    pub(crate) fn write(&self, file: &Path, tools: &str) -> anyhow::Result<()> {
        let lines = self.counts.iter().map(|(name, (unit, count))| format!("{count:12.1} {unit:9} {name}\n"));
        let text = format!("{HEAD}{tools}\n{}", lines.collect::<String>());
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }
}
