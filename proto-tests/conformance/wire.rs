//! The smallest Kafka client there can be: one blocking connection that says exactly what a test wants said. It shares
//! nothing with kmirror's client, so that a fault there cannot hide behind the same fault here.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer};

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    sent: i32,
    received: i32,
}

impl Conn {
    /// Connects to `host:port`.
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, sent: 0, received: 0 }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// Sends without waiting: the broker answers in the order of the requests.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.sent += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.sent)
            .with_client_id(Some(StrBytes::from_static_str("proto-tests")));
        let mut frame = BytesMut::new();
        encode_request_header_into_buffer(&mut frame, &header).unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
        self.stream.write_all(&[&length[..], &frame].concat()).unwrap();
    }

    /// Whether an answer begins to come within this time; it is left to be received.
    pub(crate) fn is_answered_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let begun = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        match begun {
            Ok(bytes) => bytes > 0,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(error) => panic!("waiting for an answer: {error}"),
        }
    }

    /// The answer to the next request not yet answered.
    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        self.received += 1;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap_or_else(|error| panic!("answer to api {}: {error}", R::KEY));
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        let mut body = Bytes::from(body);
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.received, "answers come in the order of the requests");
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "{} bytes too many in the answer to api {} v{version}", body.len(), R::KEY);
        response
    }
}
