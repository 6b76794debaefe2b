//! What is fuzzed: one function for each kind of bytes that come from outside. Shared by path with the crate in `fuzz/`,
//! so that a finding of libFuzzer and one of `cargo test` mean the same. A function panics where a promise is broken.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "the crate in fuzz/ has these as its public functions")]

pub mod access;
pub mod archive;
pub mod batch;
pub mod config;
pub mod fleet;
pub mod groups;
pub mod intake;
pub mod map;
pub mod notes;
pub mod sasl;
pub mod state;
pub mod wire;

pub type Target = fn(&[u8]);

pub const ALL: [(&str, Target); 12] = [
    ("access", access::run),
    ("archive", archive::run),
    ("batch", batch::run),
    ("config", config::run),
    ("fleet", fleet::run),
    ("groups", groups::run),
    ("intake", intake::run),
    ("map", map::run),
    ("notes", notes::run),
    ("sasl", sasl::run),
    ("state", state::run),
    ("wire", wire::run),
];

/// What a small input may unfold to.
pub const DECODE_LIMIT_BYTES: usize = 1 << 20;

/// Numbers off the front of the input; zeros once it has ended.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    /// An offset: mostly small, so that several meet, and sometimes at the end of all numbers.
    pub fn offset(&mut self) -> i64 {
        match self.u8() {
            kind @ 0..=0xef => i64::from(kind & 0x3f),
            0xf0..=0xf7 => i64::MAX - i64::from(self.u8()),
            _ => self.i64() & i64::MAX,
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut out = [0; N];
        out[..head.len()].copy_from_slice(head);
        out
    }

    /// A piece with its length in front (u16), cut where the input ends.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(u16::from_be_bytes(self.array()));
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece
    }
}
