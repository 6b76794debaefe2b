//! Mutations by seed: small damage, pieces of other files, and numbers at their limits.

use fastrand::Rng;

const LEN_MAX: usize = 16 * 1024;
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64];

pub(super) fn mutated(files: &[(String, Vec<u8>)], seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut data = files[rng.usize(..files.len())].1.clone();
    for _ in 0..1 + rng.usize(..4) {
        let other = &files[rng.usize(..files.len())].1;
        once(&mut data, other, &mut rng);
    }
    data.truncate(LEN_MAX);
    data
}

fn once(data: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.usize(..=data.len());
    let len = rng.usize(..16).min(data.len() - at);
    match rng.u8(..8) {
        0 if at < data.len() => data[at] ^= 1 << rng.u8(..8),
        1 if at < data.len() => data[at] = rng.u8(..),
        2 => data.truncate(at),
        3 => drop(data.drain(at..at + len)),
        4 => data.insert(at, rng.u8(..)),
        5 => {
            let piece = data[at..at + len].to_vec();
            data.splice(at..at, piece);
        }
        6 => {
            let from = rng.usize(..=other.len());
            let to = from + rng.usize(..=other.len() - from);
            data.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            let edge = EDGES[rng.usize(..EDGES.len())].to_be_bytes();
            let edge = &edge[8 - [1, 2, 4, 8][rng.usize(..4)]..];
            let end = data.len().min(at + edge.len());
            data.splice(at..end, edge.iter().copied());
        }
    }
}
