//! Over real sockets: what the kernel does is what it is about.
#![cfg(target_os = "linux")]

use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::client::buffer::Buffer;
use crate::client::transport::reader::read_frame;

use super::*;

const LENGTH: usize = 1 << 20;
/// What must come to pass at once has so long on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

type Reader = BufReader<OwnedReadHalf>;

async fn pair() -> (TcpStream, Reader) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reader = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (writer, _) = listener.accept().await.unwrap();
    (writer, BufReader::with_capacity(8 << 10, reader.into_split().0))
}

/// The bytes of the next frame.
async fn frame(reader: &mut Reader, patience: &mut Patience) -> Vec<u8> {
    let read = read_frame(reader, patience, || 8 << 20, |bytes| (Buffer::new(bytes), Pieces::Few));
    let frame = tokio::time::timeout(LIMIT, read).await.expect("it hangs").unwrap();
    match &frame.buffer {
        Buffer::Heap(bytes) => bytes.clone(),
        Buffer::Mapped(map) => map[..frame.length].to_vec(),
    }
}

fn mark_of(reader: &Reader) -> i32 {
    linux::get(&reader.get_ref().as_ref()).unwrap()
}

/// A frame, and what is in it: no two places look alike.
fn made(length: usize) -> (Vec<u8>, Vec<u8>) {
    let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8 ^ (at >> 10) as u8).collect();
    ([&(length as u32).to_be_bytes()[..], &body].concat(), body)
}

/// Where nothing is to be read: what a reader does before it sleeps.
async fn begin_to_read(reader: &mut Reader, patience: &mut Patience, pieces: Pieces, bytes: usize) {
    patience.begin(reader, pieces);
    let mut room = vec![0; bytes];
    tokio::select! {
        biased;
        read = patience.read(reader, &mut room) => panic!("{read:?} out of nothing"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn answers_of_many_pieces_are_read_whole_one_after_another() {
    let (mut writer, mut reader) = pair().await;
    let ((large, body), (small, word)) = (made(LENGTH), made(4));
    let (told, mut tell) = tokio::sync::mpsc::channel(1);
    let writing = async {
        for size in [1 << 10, 60 << 10, 100 << 10, LENGTH + 4] {
            for piece in large.chunks(size) {
                writer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            // The reader sleeps by then.
            tell.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            writer.write_all(&small).await.unwrap();
        }
    };
    let reading = async {
        let mut patience = Patience::default();
        for _ in 0..4 {
            assert!(frame(&mut reader, &mut patience).await == body);
            assert_eq!(mark_of(&reader), 1);
            told.send(()).await.unwrap();
            assert_eq!(frame(&mut reader, &mut patience).await, word);
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn this_kernel_heeds_marks_and_a_socket_is_not_readable_below_its_own() {
    let (mut writer, reader) = pair().await;
    assert!(reader.heeds());
    reader.set_low_water(4096);
    writer.write_all(&[7; 4095]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), reader.get_ref().readable()).await.is_err());
    writer.write_all(&[7]).await.unwrap();
    tokio::time::timeout(LIMIT, reader.get_ref().readable()).await.expect("it hangs").unwrap();
}

#[tokio::test]
async fn the_end_of_a_stream_is_seen_below_the_mark() {
    let (mut writer, mut reader) = pair().await;
    reader.set_low_water(LENGTH);
    let mut rest = Vec::new();
    let closing = async {
        writer.write_all(&[7; 10_000]).await.unwrap();
        drop(writer);
    };
    let reading = tokio::time::timeout(LIMIT, reader.read_to_end(&mut rest));
    let (read, ()) = tokio::join!(reading, closing);
    assert_eq!(read.expect("it hangs").unwrap(), 10_000);
}

#[tokio::test]
async fn an_answer_that_stops_below_the_mark_is_read_that_far_and_the_next_ones_as_they_come() {
    let (mut writer, mut reader) = pair().await;
    let (large, _) = made(LENGTH);
    let mut patience = Patience::default();
    begin_to_read(&mut reader, &mut patience, Pieces::Few, 2 * LENGTH).await;
    assert_eq!(mark_of(&reader), i32::try_from(AT_ONCE_BYTES).unwrap());
    let mut room = vec![0; LENGTH];
    let writing = async { writer.write_all(&large[..100_000]).await.unwrap() };
    let (read, ()) = tokio::join!(tokio::time::timeout(LIMIT, patience.read(&mut reader, &mut room)), writing);
    let mut filled = read.expect("it hangs").unwrap();
    assert_eq!((patience.rest, mark_of(&reader)), (REST, 1));
    while filled < 100_000 {
        let read = tokio::time::timeout(LIMIT, patience.read(&mut reader, &mut room[filled..])).await;
        filled += read.expect("it hangs").unwrap();
    }
    assert!(room[..filled] == large[..filled]);
    for answer in (0..=REST).rev() {
        begin_to_read(&mut reader, &mut patience, Pieces::Few, LENGTH).await;
        let awaited = patience.mark_bytes.is_some();
        assert_eq!(awaited, answer == 0, "{answer} answers to go");
    }
}

#[tokio::test]
async fn small_pieces_and_distant_brokers_are_not_waited_for() {
    let (_writer, mut reader) = pair().await;
    let mut patience = Patience::default();
    begin_to_read(&mut reader, &mut patience, Pieces::Few, WORTHWHILE_BYTES - 1).await;
    assert_eq!(mark_of(&reader), 1);
    begin_to_read(&mut reader, &mut patience, Pieces::AsTheyCome, LENGTH).await;
    assert_eq!(mark_of(&reader), 1);
}
