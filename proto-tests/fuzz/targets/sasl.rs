//! What is said before a connection is ours: SCRAM's server, a broker that refuses a token, a token endpoint.

use std::time::Duration;

use kmirror::client::fuzzing::{bearer_refusal, scram_dialogue, token_answer};

use super::Input;

const PASSWORD: &str = "no-server-that-is-made-up-knows-it";
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server's first message with its length in front, then its last; or a refusal; or an endpoint's answer.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 3 {
        0 => {
            let first = input.piece();
            let outcome = scram_dialogue(PASSWORD, NONCE, first, input.0);
            let words = outcome.expect_err("a server that does not know the password was believed");
            assert!(!words.is_empty() && !words.contains(PASSWORD));
        }
        1 => {
            let words = bearer_refusal(input.0, PASSWORD);
            assert!(is_shown_on_one_line(&words) && !words.contains(PASSWORD));
        }
        _ => {
            let status = 200 + u16::from(input.u8());
            match token_answer(status, input.0, PASSWORD) {
                Ok((token, serves)) => {
                    assert!(status < 300 && serves <= DAY);
                    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                }
                Err(words) => assert!(is_shown_on_one_line(&words) && !words.contains(PASSWORD)),
            }
        }
    }
}

fn is_shown_on_one_line(words: &str) -> bool {
    words.chars().count() < 400 && !words.chars().any(char::is_control)
}
