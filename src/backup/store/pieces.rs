//! A file of a local folder, read piece by piece: `object_store` takes 8 KiB at a time, each by a task of its own, which costs more
//! than all that is done with them.

use std::fs::File;
use std::io::Read as _;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, try_unfold};
use object_store::Error;

use super::local::blocking;

const PIECE_BYTES: usize = 1 << 20;

/// What is in a file from where it stands.
pub(super) fn pieces_of(file: File) -> BoxStream<'static, Result<Bytes, Error>> {
    try_unfold(file, |file| async {
        let (file, piece) = blocking(move || next_of(file)).await?;
        Ok((!piece.is_empty()).then_some((piece, file)))
    })
    .boxed()
}

fn next_of(mut file: File) -> std::io::Result<(File, Bytes)> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok((file, piece.into()))
}
