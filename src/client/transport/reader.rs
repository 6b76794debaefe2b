//! Responses off a stream: a length, and so many bytes into the buffer of whoever waits for them.

use std::sync::Arc;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use crate::client::buffer::Buffer;
use crate::client::connection::{Hold, Pieces};

use super::low_water::{LowWater, Patience};

/// How a TLS listener answers what is not TLS (RFC 8446, 6: alert, then the legacy version). Read as a length it would be one
/// within the limit, and the reader would wait for its end.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

#[derive(Debug)]
pub(in crate::client) enum FrameError {
    Io(std::io::Error),
    /// A TLS alert.
    Tls,
    /// More than is taken, or less than a correlation id.
    Length(i32),
}

impl From<std::io::Error> for FrameError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A response as it came.
#[derive(Debug)]
pub(in crate::client) struct Frame {
    pub(in crate::client) buffer: Buffer,
    pub(in crate::client) length: usize,
    /// When its first byte was there.
    pub(in crate::client) began: Instant,
}

/// The next frame.
pub(in crate::client) async fn read_frame<R: AsyncRead + LowWater + Unpin>(
    reader: &mut R,
    patience: &mut Patience,
    limit_bytes: impl FnOnce() -> usize,
    buffer: impl FnOnce(usize) -> (Buffer, Pieces),
) -> Result<Frame, FrameError> {
    let size = reader.read_i32().await?;
    let began = Instant::now();
    if size.to_be_bytes().starts_with(&TLS_ALERT) {
        return Err(FrameError::Tls);
    }
    let length = usize::try_from(size).ok().filter(|l| (4..=limit_bytes()).contains(l));
    let length = length.ok_or(FrameError::Length(size))?;
    let (mut buffer, pieces) = buffer(length);
    match &mut buffer {
        Buffer::Mapped(map) => {
            let room = map.get_mut(..length).ok_or(FrameError::Length(size))?;
            patience.begin(reader, pieces);
            read_large(reader, patience, room).await?;
        }
        Buffer::Heap(bytes) => read_growing(reader, bytes, length).await?,
    }
    Ok(Frame { buffer, length, began })
}

async fn read_large<R: AsyncRead + LowWater + Unpin>(
    reader: &mut R,
    patience: &mut Patience,
    mut room: &mut [u8],
) -> std::io::Result<()> {
    while !room.is_empty() {
        let read = patience.read(reader, room).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        room = room.split_at_mut(read).1;
    }
    patience.end(reader);
    Ok(())
}

async fn read_growing<R: AsyncRead + Unpin>(reader: &mut R, bytes: &mut Vec<u8>, length: usize) -> std::io::Result<()> {
    while bytes.len() < length {
        let missing = length - bytes.len();
        if bytes.capacity() == bytes.len() {
            bytes.reserve_exact(missing.min(bytes.len().max(1)));
        }
        let mut room = (&mut *bytes).limit(missing);
        if reader.read_buf(&mut room).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// A response and what is held with it.
pub(in crate::client) struct Held {
    pub(in crate::client) frame: Frame,
    pub(in crate::client) hold: Option<Arc<dyn Hold>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let buffer = std::mem::replace(&mut self.frame.buffer, Buffer::heap(0));
        if let Some(hold) = &self.hold {
            hold.give_back(buffer);
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        match &self.frame.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped(map) => map.get(..self.frame.length).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn a_tls_alert_is_not_taken_for_a_length() {
        let heap: fn(usize) -> (Buffer, Pieces) = |bytes| (Buffer::heap(bytes), Pieces::AsTheyCome);
        let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50];
        assert!(matches!(
            read_frame(&mut &alert[..], &mut Patience::default(), || 1 << 20, heap).await,
            Err(FrameError::Tls)
        ));
        let plain = [0, 0, 0, 4, 0, 0, 0, 7];
        let read = async |buffer: fn(usize) -> (Buffer, Pieces)| {
            let frame = read_frame(&mut &plain[..], &mut Patience::default(), || 8, buffer).await.unwrap();
            Bytes::from_owner(Held { frame, hold: None })
        };
        assert_eq!(read(heap).await, &[0, 0, 0, 7][..]);
        assert_eq!(
            read(|bytes| (Buffer::new(bytes.max(1 << 20)), Pieces::Few)).await,
            &[0, 0, 0, 7][..],
            "what is mapped and not read is not of it"
        );
    }
}
