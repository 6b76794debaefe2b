//! A build without the feature `msk-iam`.

use secrecy::SecretString;

/// Nobody who signs.
#[derive(Debug, Default)]
pub(super) struct Signer;

impl Signer {
    /// Never a token.
    #[allow(clippy::unused_async, reason = "as of the build with the feature")]
    pub(super) async fn token(&self, _region: &str) -> Result<SecretString, String> {
        Err("this build of kmirror signs no tokens: build it with the cargo feature msk-iam".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_feature_is_named() {
        assert!(Signer.token("eu-central-1").await.unwrap_err().ends_with("build it with the cargo feature msk-iam"));
    }
}
