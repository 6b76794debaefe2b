//! A broker that authenticates as no broker should: what it is told, and how far it gets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kmirror::client::{ClientError, Cluster};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::spec;

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

/// What it answers to the nth token of SASL: an error code, and bytes.
type Script = Arc<dyn Fn(usize, &[u8]) -> (i16, Vec<u8>) + Send + Sync>;

/// What it answers to a version of ApiVersions that it does not know: as KIP-511 has it.
const UNSUPPORTED: &[u8] = &[0, 35, 0, 0, 0, 0];

/// Its address, and how many connections it has seen.
async fn broker(script: Script) -> (String, Arc<AtomicUsize>) {
    broker_with(UNSUPPORTED, script).await
}

async fn broker_with(unsupported: &'static [u8], script: Script) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, unsupported, Arc::clone(&script)));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, unsupported: &[u8], script: Script) {
    let mut tokens = 0;
    while let Ok(length) = stream.read_i32().await {
        let mut request = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let mut request = Bytes::from(request);
        let (key, version, correlation) = (request.get_i16(), request.get_i16(), request.get_i32());
        let client_id = usize::try_from(request.get_i16()).unwrap();
        request.advance(client_id);
        let mut answer = BytesMut::new();
        answer.put_i32(correlation);
        match key {
            API_VERSIONS if version > 0 => answer.put_slice(unsupported),
            API_VERSIONS => {
                answer.put_slice(&[0, 0, 0, 0, 0, 3]);
                for (key, min, max) in [(API_VERSIONS, 0, 0), (SASL_HANDSHAKE, 0, 1), (SASL_AUTHENTICATE, 0, 1)] {
                    [key, min, max].into_iter().for_each(|number| answer.put_i16(number));
                }
            }
            SASL_HANDSHAKE => answer.put_slice(&[0; 6]),
            SASL_AUTHENTICATE => {
                let length = request.get_i32();
                assert_eq!(usize::try_from(length).unwrap(), request.len());
                let (code, bytes) = script(tokens, &request);
                tokens += 1;
                answer.put_i16(code);
                let words = format!("said with {}", String::from_utf8_lossy(&request));
                answer.put_i16(i16::try_from(words.len()).unwrap());
                answer.put_slice(words.as_bytes());
                answer.put_i32(i32::try_from(bytes.len()).unwrap());
                answer.put_slice(&bytes);
                answer.put_i64(0);
            }
            _ => return,
        }
        let length = i32::try_from(answer.len()).unwrap();
        if stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}

/// librdkafka's mock of a broker (2.16) answers in the layout of the version that it does not know.
#[tokio::test]
async fn versions_are_asked_for_anew_whatever_comes_with_the_refusal() {
    const OF_THE_MOCK: &[u8] = &[0, 35, 1, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0];
    let (address, _) = broker_with(OF_THE_MOCK, Arc::new(|_, _| (58, Vec::new()))).await;
    let more = ", sasl: { mechanism: PLAIN, username: alice, password: hunter2 }";
    let error = Cluster::connect(spec(Path::new(""), &address, more)).await.unwrap_err();
    assert!(error.to_string().contains("SASL_AUTHENTICATION_FAILED"), "{error}");
}

async fn refused(mechanism: &str, script: Script) -> (ClientError, usize) {
    let (address, seen) = broker(script).await;
    let secret = match mechanism {
        "OAUTHBEARER" => "token: hunter2",
        _ => "username: alice, password: hunter2",
    };
    let more = format!(", sasl: {{ mechanism: {mechanism}, {secret} }}");
    let error = Cluster::connect(spec(Path::new(""), &address, &more)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(error.is_unreachable_or_unauthorised(), "exit code 4: {text}");
    assert!(text.contains("cluster c: ") && text.contains(&address), "{text}");
    assert!(!text.contains("hunter2"), "a secret in {text}");
    (error, seen.load(Ordering::SeqCst))
}

fn challenge(first: &[u8], iterations: &str, suffix: &str) -> Vec<u8> {
    let first = String::from_utf8_lossy(first);
    let nonce = first.rsplit_once("r=").unwrap().1;
    format!("r={nonce}{suffix},s={},i={iterations}", STANDARD.encode("salt")).into_bytes()
}

async fn scram(iterations: &'static str, suffix: &'static str, last: &'static [u8]) -> String {
    let script = move |step: usize, message: &[u8]| match step {
        0 => (0, challenge(message, iterations, suffix)),
        _ => (0, last.to_vec()),
    };
    refused("SCRAM-SHA-256", Arc::new(script)).await.0.to_string()
}

#[tokio::test]
async fn a_scram_server_that_lies_is_not_believed() {
    let text = scram("2000000000", "x", b"").await;
    assert!(text.contains("it asks for 2000000000 iterations; kmirror takes 4096 to 1000000"), "{text}");
    let text = scram("4096", "", b"").await;
    assert!(text.contains("another nonce"), "{text}");
    let text = scram("4096", "x", b"v=AAAA").await;
    assert!(text.contains("its signature is wrong"), "{text}");
    let text = scram("4096", "x", b"").await;
    assert!(text.contains("no signature"), "{text}");
    assert!(text.contains("user \"alice\" by SCRAM-SHA-256"), "{text}");
}

#[tokio::test]
async fn a_giant_answer_is_not_taken() {
    let (error, _) = refused("PLAIN", Arc::new(|_, _| (0, vec![b'x'; 600 << 10]))).await;
    assert!(error.to_string().contains("it answers with 614400 bytes"), "{error}");
    let (address, _) = broker(Arc::new(|_, _| (0, vec![b'x'; 2 << 20]))).await;
    let more = ", sasl: { mechanism: PLAIN, username: alice, password: hunter2 }";
    let error = Cluster::connect(spec(Path::new(""), &address, more)).await.unwrap_err();
    assert!(error.to_string().contains("more than 1048576"), "{error}");
}

/// Its words are shown, but for the secret that it puts into them; and it is asked once.
#[tokio::test]
async fn a_refusal_is_told_without_the_secret_and_not_tried_again() {
    let (error, seen) = refused("PLAIN", Arc::new(|_, _| (58, Vec::new()))).await;
    let text = error.to_string();
    assert!(text.contains("SASL_AUTHENTICATION_FAILED; the broker says: said with"), "{text}");
    assert!(text.contains("<secret>; are sasl.username and sasl.password those of this cluster"), "{text}");
    assert_eq!(seen, 1, "connections");
    let script = |step: usize, message: &[u8]| match step {
        0 => (0, b"{\"status\":\"invalid_token\"}".to_vec()),
        _ => (if message == b"\x01" { 58 } else { 0 }, Vec::new()),
    };
    let (error, _) = refused("OAUTHBEARER", Arc::new(script)).await;
    assert!(error.to_string().contains("is the token of an issuer"), "{error}");
}
