//! Layouts of what answers to changes of configs and ACLs.

use super::super::Layout;
use super::{array, int8, int16, int32, string};

pub(super) const INCREMENTAL_ALTER_CONFIGS: Layout = Layout {
    versions: (0, 1),
    flexible: 1,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "responses",
            &[int16("error_code"), string("error_message").nullable(0), int8("resource_type"), string("resource_name")],
        ),
    ],
};

pub(super) const CREATE_ACLS: Layout = Layout {
    versions: (1, 3),
    flexible: 2,
    fields: &[int32("throttle_time_ms"), array("results", &[int16("error_code"), string("error_message").nullable(0)])],
};

pub(super) const DELETE_ACLS: Layout = Layout {
    versions: (1, 3),
    flexible: 2,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "filter_results",
            &[
                int16("error_code"),
                string("error_message").nullable(0),
                array(
                    "matching_acls",
                    &[
                        int16("error_code"),
                        string("error_message").nullable(0),
                        int8("resource_type"),
                        string("resource_name"),
                        int8("pattern_type"),
                        string("principal"),
                        string("host"),
                        int8("operation"),
                        int8("permission_type"),
                    ],
                ),
            ],
        ),
    ],
};

pub(super) const DESCRIBE_ACLS: Layout = Layout {
    versions: (1, 3),
    flexible: 2,
    fields: &[
        int32("throttle_time_ms"),
        int16("error_code"),
        string("error_message").nullable(0),
        array(
            "resources",
            &[
                int8("resource_type"),
                string("resource_name"),
                int8("pattern_type"),
                array("acls", &[string("principal"), string("host"), int8("operation"), int8("permission_type")]),
            ],
        ),
    ],
};
