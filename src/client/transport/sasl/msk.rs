//! Tokens for Amazon MSK: the URL of a GET for `kafka-cluster:Connect`, presigned by Signature Version 4, in base64url (what
//! `IAMOAuthBearerLoginCallbackHandler` of aws-msk-iam-auth makes, and AWS's `aws-msk-iam-sasl-signer` in other languages).

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use secrecy::SecretString;
use url::Url;

/// How long MSK takes a token, as AWS's own signers have it.
const EXPIRES: Duration = Duration::from_secs(900);
const SERVICE: &str = "kafka-cluster";
/// For the cluster's log; not signed.
const USER_AGENT: &str = concat!("kmirror/", env!("CARGO_PKG_VERSION"));
/// A metadata service that does not answer is not waited for much longer than a token endpoint.
const PATIENCE: Duration = Duration::from_secs(20);

/// Signs with whatever credentials this machine has; those that expire are renewed in time by their provider.
#[derive(Debug, Default)]
pub(super) struct Signer {
    provider: OnceLock<AwsCredentialProvider>,
}

impl Signer {
    /// A token that is valid from now on.
    pub(super) async fn token(&self, region: &str) -> Result<SecretString, String> {
        let provider = match self.provider.get() {
            Some(provider) => provider,
            None => {
                let found = provider(region)?;
                self.provider.get_or_init(|| found)
            }
        };
        let credential = tokio::time::timeout(PATIENCE, provider.get_credential()).await;
        let credential = credential.map_err(|_| "no AWS credentials within 20 s".to_owned())?;
        let credential = credential.map_err(|error| {
            format!(
                "there are no AWS credentials in the environment (AWS_ACCESS_KEY_ID), of a web identity, a container or an \
                 instance: {error}"
            )
        })?;
        token(&credential, region, SystemTime::now())
    }
}

/// Of the first source that is there: what object stores go by, too.
fn provider(region: &str) -> Result<AwsCredentialProvider, String> {
    // Already there where an object store was opened before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No bucket is asked for anything; the builder only wants one to be named.
    let store = AmazonS3Builder::from_env().with_bucket_name("none").with_region(region).build();
    store.map(|store| store.credentials().clone()).map_err(|error| error.to_string())
}

/// The token of these credentials at that time.
fn token(credential: &AwsCredential, region: &str, at: SystemTime) -> Result<SecretString, String> {
    let unsigned = |error: &dyn std::error::Error| format!("a token cannot be signed: {error}");
    let mut url = Url::parse(&format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect"))
        .map_err(|error| unsigned(&error))?;
    let (key, secret) = (credential.key_id.clone(), credential.secret_key.clone());
    let identity = Credentials::new(key, secret, credential.token.clone(), None, "kmirror").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let params = v4::SigningParams::builder().identity(&identity).region(region).name(SERVICE).time(at);
    let params = params.settings(settings).build().map_err(|error| unsigned(&error))?.into();
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| unsigned(&error))?;
    let (signed, _) = sign(request, &params).map_err(|error| unsigned(&error))?.into_parts();
    url.query_pairs_mut().extend_pairs(signed.params()).append_pair("User-Agent", USER_AGENT);
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(url.as_str())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use ring::{digest, hmac};
    use secrecy::ExposeSecret as _;

    use super::*;

    const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const SESSION: &str = "IQoJb3JpZ2luX2VjEXAMPLE/+token==";
    /// 2026-01-02T03:04:05Z.
    const AT: u64 = 1_767_323_045;

    fn signed(region: &str, session: Option<&str>, at_s: u64) -> Url {
        let credential =
            AwsCredential { key_id: KEY.to_owned(), secret_key: SECRET.to_owned(), token: session.map(str::to_owned) };
        let token = token(&credential, region, SystemTime::UNIX_EPOCH + Duration::from_secs(at_s)).unwrap();
        let url = URL_SAFE_NO_PAD.decode(token.expose_secret()).unwrap();
        Url::parse(std::str::from_utf8(&url).unwrap()).unwrap()
    }

    fn query(url: &Url) -> BTreeMap<String, String> {
        url.query_pairs().into_owned().collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").unwrap();
            out
        })
    }

    /// RFC 3986's unreserved characters stay.
    fn encoded(text: &str) -> String {
        text.bytes().fold(String::new(), |mut out, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                _ => write!(out, "%{byte:02X}").unwrap(),
            }
            out
        })
    }

    /// What the other side computes, after AWS's "Signature Version 4 signing process": of all parameters but the signature,
    /// and what was put in behind it.
    fn signature(url: &Url, payload: &str) -> String {
        let all = query(url);
        let is_signed = |name: &str| !["X-Amz-Signature", "User-Agent"].contains(&name);
        let parts = all.iter().filter(|(name, _)| is_signed(name));
        let parts: Vec<String> = parts.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let (host, path) = (url.host_str().unwrap(), url.path());
        let canonical = format!("GET\n{path}\n{}\nhost:{host}\n\nhost\n{payload}", parts.join("&"));
        let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let (_, scope) = all["X-Amz-Credential"].split_once('/').unwrap();
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hashed}", all["X-Amz-Date"]);
        let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let first = format!("AWS4{SECRET}").into_bytes();
        let key = scope.split('/').fold(first, |key, word| mac(&key, word).as_ref().to_vec());
        hex(mac(&key, &to_sign).as_ref())
    }

    /// Of AWS's own signer: aws-msk-iam-sasl-signer-python 1.0.2 on botocore 1.44.8, at that time with these credentials.
    #[test]
    fn the_signature_is_that_of_awss_own_signer() {
        let of = |region, session| query(&signed(region, session, AT))["X-Amz-Signature"].clone();
        assert_eq!(of("eu-central-1", None), "ae874169398707b1b58a2dda229819a527bacefe4114ff30c4d7c071601bbf96");
        assert_eq!(of("us-east-1", Some(SESSION)), "7424a0c31bb5bf0aa744269bb130b40e6d7b847e40be7502a25a8e923087de01");
    }

    #[test]
    fn a_token_says_what_it_is_to_say_and_nothing_more() {
        let url = signed("us-east-1", Some(SESSION), AT);
        assert_eq!((url.scheme(), url.host_str(), url.path()), ("https", Some("kafka.us-east-1.amazonaws.com"), "/"));
        let mut all = query(&url);
        all.remove("X-Amz-Signature").unwrap();
        let told: Vec<(&str, &str)> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            told,
            [
                ("Action", "kafka-cluster:Connect"),
                ("User-Agent", USER_AGENT),
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Credential", "AKIAIOSFODNN7EXAMPLE/20260102/us-east-1/kafka-cluster/aws4_request"),
                ("X-Amz-Date", "20260102T030405Z"),
                ("X-Amz-Expires", "900"),
                ("X-Amz-Security-Token", SESSION),
                ("X-Amz-SignedHeaders", "host"),
            ]
        );
        assert!(!url.as_str().contains(SECRET));
    }

    #[test]
    fn whoever_knows_the_secret_comes_to_the_same_signature() {
        let nothing = hex(digest::digest(&digest::SHA256, b"").as_ref());
        for (region, session, at_s) in [("eu-central-1", None, AT), ("us-gov-west-1", Some(SESSION), AT + 86_400)] {
            let url = signed(region, session, at_s);
            assert_eq!(query(&url)["X-Amz-Signature"], signature(&url, &nothing), "{url}");
        }
        // The judge itself is held against the example of AWS's documentation ("Authenticating Requests: Using Query Parameters").
        let example = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
                       AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=\
                       86400&X-Amz-SignedHeaders=host";
        assert_eq!(
            signature(&Url::parse(example).unwrap(), "UNSIGNED-PAYLOAD"),
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}
