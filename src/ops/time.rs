//! Times as they are shown.

pub(crate) use crate::plan::rfc3339;
