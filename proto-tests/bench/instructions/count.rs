//! One piece of work under valgrind. This program runs itself there; only what happens within [`measured`] is counted.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::parts::{Run, Work, chosen};

/// The name by which callgrind switches collecting on and off.
const MEASURED: &str = "instructions::count::measured*";

/// Not inlined: callgrind knows functions by their symbols.
#[inline(never)]
fn measured(run: Run) {
    run();
}

/// Valgrind's child: the work once for what is done only once in a process, then to be counted.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    let all = chosen(&[]);
    let work = all.iter().find(|work| work.name == name).with_context(|| format!("there is no {name:?}"))?;
    let mut prepare = (work.make)();
    prepare()();
    measured(prepare());
    Ok(())
}

/// Instructions for each unit.
pub(crate) fn under_valgrind(work: &Work) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--read-inline-info=no"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(program)
        .args(["--run", &work.name])
        .output()
        .context("running valgrind; is it installed?")?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("valgrind: {}\n{said}", out.status);
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    match collected {
        Some(count) if count > 0 => Ok(count as f64 / f64::from(work.units)),
        _ => bail!("valgrind collected nothing:\n{said}"),
    }
}
