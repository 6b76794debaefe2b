//! How much of an answer must be there before its reader is woken (`SO_RCVLOWAT`, socket(7)).
//!
//! A broker hands a large answer to its socket in pieces of 100 KiB or so (`socket.send.buffer.bytes`), and a reader that is
//! woken for each of them goes to sleep seven times a MiB. Woken for all that is missing at once, it does so three times (real
//! brokers at both ends; Linux 6.18), and what it costs is in the crate's documentation, "What costs what".
//!
//! Only for brokers that are near: what was not read yet keeps the sender waiting, and over a long line that takes longer to make
//! good.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, BufReader, ReadHalf};
use tokio::net::tcp::OwnedReadHalf;

use crate::client::connection::Pieces;

/// Less than this comes in one piece or two.
const WORTHWHILE_BYTES: usize = 64 << 10;
/// More is read in several pieces: while one is copied the next comes in, and the kernel need not hold all of it. It makes the
/// receive buffer large enough for that, at most half of `tcp_rmem`'s maximum, and it stays so.
const AT_ONCE_BYTES: usize = 1 << 20;
/// After so long whatever is there will do: a broker may be busy in the middle of an answer. And before Linux 5.12 a receive
/// buffer that is full of small packets may never reach the mark.
const PATIENCE: Duration = Duration::from_millis(100);
/// Answers that are read as they come after one for which that was too long.
const REST: u32 = 64;

/// A stream that can be told how much its reader waits for.
pub(in crate::client) trait LowWater {
    /// Whether that makes a difference, and can be taken back at any time.
    fn heeds(&self) -> bool;
    /// It becomes readable when so many bytes are there, or as many as there is room for, or it has ended.
    fn set_low_water(&self, bytes: usize);
}

impl LowWater for OwnedReadHalf {
    #[cfg(target_os = "linux")]
    fn heeds(&self) -> bool {
        linux::heeds()
    }

    #[cfg(not(target_os = "linux"))]
    fn heeds(&self) -> bool {
        false
    }

    #[cfg(target_os = "linux")]
    fn set_low_water(&self, bytes: usize) {
        linux::set(self.as_ref(), i32::try_from(bytes).unwrap_or(i32::MAX));
    }

    #[cfg(not(target_os = "linux"))]
    fn set_low_water(&self, _: usize) {}
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsFd;
    use std::sync::OnceLock;

    use nix::sys::socket::sockopt::{GetStruct, SetStruct};
    use socket2::{Domain, Socket, Type};

    /// `SO_RCVLOWAT`, which nix has no name for.
    #[derive(Debug, Clone, Copy)]
    struct ReceiveLowWater;

    nix::setsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32, SetStruct<'_, i32>);
    nix::getsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32, GetStruct<i32>);

    /// It only saves work: where it fails the reader is woken more often, or its patience ends.
    pub(super) fn set<F: AsFd>(socket: &F, bytes: i32) {
        let _ = nix::sys::socket::setsockopt(socket, ReceiveLowWater, &bytes);
    }

    pub(super) fn get<F: AsFd>(socket: &F) -> Option<i32> {
        nix::sys::socket::getsockopt(socket, ReceiveLowWater).ok()
    }

    /// Since Linux 4.18 the buffer grows with the mark, and lowering it wakes the reader (`tcp_set_rcvlowat`). Before that it was a
    /// number that nobody bounded, by which such a kernel is known: a reader could sleep for ever there.
    pub(super) fn heeds() -> bool {
        static HEEDS: OnceLock<bool> = OnceLock::new();
        *HEEDS.get_or_init(|| {
            let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) else { return false };
            set(&socket, i32::MAX);
            get(&socket).is_some_and(|bytes| bytes < i32::MAX)
        })
    }
}

/// Under TLS, what is there on the socket is not what can be read.
impl<S> LowWater for ReadHalf<S> {
    fn heeds(&self) -> bool {
        false
    }

    fn set_low_water(&self, _: usize) {}
}

impl<R: LowWater + AsyncRead> LowWater for BufReader<R> {
    fn heeds(&self) -> bool {
        self.get_ref().heeds()
    }

    fn set_low_water(&self, bytes: usize) {
        self.get_ref().set_low_water(bytes);
    }
}

#[cfg(test)]
impl LowWater for &[u8] {
    fn heeds(&self) -> bool {
        false
    }

    fn set_low_water(&self, _: usize) {}
}

/// How the reader of a connection waits for the rest of a large answer.
#[derive(Debug, Default)]
pub(in crate::client) struct Patience {
    /// Of the present answer all that is missing is waited for.
    is_patient: bool,
    /// Where the connection's mark is, where it is not the usual one.
    mark_bytes: Option<usize>,
    /// Answers still to be read as they come.
    rest: u32,
}

impl Patience {
    /// An answer is about to be read.
    pub(super) fn begin<R: LowWater>(&mut self, reader: &R, pieces: Pieces) {
        self.is_patient = pieces == Pieces::Few && self.rest == 0 && reader.heeds();
        self.rest = self.rest.saturating_sub(1);
    }

    /// The next bytes, where `room` is for all that are missing: those that are there, or else as many of them as can be had at
    /// once.
    pub(super) async fn read<R>(&mut self, reader: &mut R, room: &mut [u8]) -> std::io::Result<usize>
    where
        R: AsyncRead + LowWater + Unpin,
    {
        if !self.is_patient {
            return reader.read(room).await;
        }
        let there = tokio::select! {
            biased;
            read = reader.read(room) => Some(read),
            () = std::future::ready(()) => None,
        };
        if let Some(read) = there {
            return read;
        }
        if room.len() >= WORTHWHILE_BYTES {
            self.mark(reader, Some(room.len().min(AT_ONCE_BYTES)));
            if let Ok(read) = tokio::time::timeout(PATIENCE, reader.read(room)).await {
                return read;
            }
            (self.is_patient, self.rest) = (false, REST);
        }
        self.mark(reader, None);
        reader.read(room).await
    }

    /// The first byte of the next answer is news again.
    pub(super) fn end<R: LowWater>(&mut self, reader: &R) {
        self.mark(reader, None);
    }

    fn mark<R: LowWater>(&mut self, reader: &R, bytes: Option<usize>) {
        if self.mark_bytes != bytes {
            self.mark_bytes = bytes;
            reader.set_low_water(bytes.unwrap_or(1));
        }
    }
}

#[cfg(test)]
mod tests;
