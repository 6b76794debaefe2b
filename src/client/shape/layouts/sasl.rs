//! Layouts of what is said before a broker lets us in.

use super::super::Layout;
use super::{bytes, int16, int64, string, strings};

pub(super) const SASL_HANDSHAKE: Layout =
    Layout { versions: (0, 1), flexible: 2, fields: &[int16("error_code"), strings("mechanisms")] };

pub(super) const SASL_AUTHENTICATE: Layout = Layout {
    versions: (0, 2),
    flexible: 2,
    fields: &[
        int16("error_code"),
        string("error_message").nullable(0),
        bytes("auth_bytes"),
        int64("session_lifetime_ms").since(1),
    ],
};
