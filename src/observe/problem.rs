//! Why there is no answer: problem details as RFC 9457 has them, with types that a program can tell apart.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::engine::EngineError;
use crate::ops::{AcceptError, FailoverError, TranslateError};

/// What went wrong. Each is a `type` of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    UnknownPath,
    UnknownMirror,
    UnknownPartition,
    NoGroups,
    BadQuestion,
    NotJson,
    TokenMissing,
    ActionsOff,
    WrongHost,
    Refused,
    Busy,
    Unreachable,
    TooSlow,
}

impl Kind {
    /// Its name, what it is in words, and its status.
    fn told(self) -> (&'static str, &'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::UnknownPath => ("unknown-path", "There is no such path", S::NOT_FOUND),
            Self::UnknownMirror => ("unknown-mirror", "This process runs no such mirror", S::NOT_FOUND),
            Self::UnknownPartition => ("unknown-partition", "There is no such topic or partition", S::NOT_FOUND),
            Self::NoGroups => ("no-groups", "The mirror selects no consumer groups", S::NOT_FOUND),
            Self::BadQuestion => ("bad-question", "The question cannot be understood", S::BAD_REQUEST),
            Self::NotJson => ("not-json", "The body is to be application/json", S::UNSUPPORTED_MEDIA_TYPE),
            Self::TokenMissing => ("token-missing", "This takes the token", S::UNAUTHORIZED),
            Self::ActionsOff => ("actions-off", "Nothing can be changed over HTTP", S::FORBIDDEN),
            Self::WrongHost => ("wrong-host", "It answers to no such name", S::FORBIDDEN),
            Self::Refused => ("refused", "It was refused, and nothing was changed", S::CONFLICT),
            Self::Busy => ("busy", "Another one is at it", S::CONFLICT),
            Self::Unreachable => ("unreachable", "The clusters do not answer", S::BAD_GATEWAY),
            Self::TooSlow => ("too-slow", "The clusters did not answer in time", S::GATEWAY_TIMEOUT),
        }
    }

    pub(super) fn because(self, detail: impl Into<String>) -> Problem {
        let (name, title, status) = self.told();
        Problem { kind: format!("urn:kmirror:problem:{name}"), title, status: status.as_u16(), detail: detail.into() }
    }
}

/// Why there is no answer, or why something was not done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Problem {
    /// `urn:kmirror:problem:` and its name; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, in words; the same for each of this type.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong in this case, and what to do about it.
    pub detail: String,
}

impl Problem {
    pub(super) fn no_mirror(name: &str) -> Self {
        Kind::UnknownMirror.because(format!("this process runs no mirror {name:?}"))
    }

    pub(super) fn no_partition(mirror: &str, what: &str) -> Self {
        Kind::UnknownPartition.because(format!(
            "mirror {mirror} has no {what}, or the clusters could not be asked: /api/v1/mirrors/{mirror}/topics lists what it has"
        ))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kmirror\""));
        }
        response
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let kind = if error.client().is_some() { Kind::Unreachable } else { Kind::Refused };
        kind.because(error.to_string())
    }
}

impl From<TranslateError> for Problem {
    fn from(error: TranslateError) -> Self {
        match error {
            TranslateError::Unknown { .. } => Kind::UnknownPartition.because(error.to_string()),
            TranslateError::Damaged { .. } => Kind::Refused.because(error.to_string()),
            TranslateError::Engine(error) => error.into(),
        }
    }
}

impl From<FailoverError> for Problem {
    fn from(error: FailoverError) -> Self {
        match error {
            FailoverError::Engine(error) => error.into(),
            other => Kind::Refused.because(other.to_string()),
        }
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Refused(why) => Kind::Refused.because(why),
            AcceptError::Engine(error) => error.into(),
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(error: JsonRejection) -> Self {
        let is_json = error.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE;
        (if is_json { Kind::BadQuestion } else { Kind::NotJson }).because(error.body_text())
    }
}

/// A body, which is an object: a list would do for serde, by the order of the fields.
pub(super) type Body = Result<Json<Map<String, Value>>, JsonRejection>;

/// What a body says.
pub(super) fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let Json(object) = body?;
    serde_json::from_value(Value::Object(object)).map_err(|error| Kind::BadQuestion.because(error.to_string()))
}

impl From<QueryRejection> for Problem {
    fn from(error: QueryRejection) -> Self {
        Kind::BadQuestion.because(error.body_text())
    }
}
