//! Layouts of what answers to changes of topics, configs and ACLs, and to questions about ACLs, quotas and users.

use super::super::Layout;
use super::{array, int8, int16, int32, int64, string, uuid};

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

pub(super) const DELETE_TOPICS: Layout = Layout {
    versions: (1, 6),
    flexible: 4,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "responses",
            &[
                string("name").nullable(6),
                uuid("topic_id").since(6),
                int16("error_code"),
                string("error_message").since(5).nullable(5),
            ],
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

pub(super) const ALTER_CLIENT_QUOTAS: Layout = Layout {
    versions: (0, 1),
    flexible: 1,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "entries",
            &[
                int16("error_code"),
                string("error_message").nullable(0),
                array("entity", &[string("entity_type"), string("entity_name").nullable(0)]),
            ],
        ),
    ],
};

pub(super) const DESCRIBE_CLIENT_QUOTAS: Layout = Layout {
    versions: (0, 1),
    flexible: 1,
    fields: &[
        int32("throttle_time_ms"),
        int16("error_code"),
        string("error_message").nullable(0),
        array(
            "entries",
            &[
                array("entity", &[string("entity_type"), string("entity_name").nullable(0)]),
                // A double: eight bytes like a number.
                array("values", &[string("key"), int64("value")]),
            ],
        )
        .nullable(0),
    ],
};

/// There is no version that is not flexible.
pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: Layout = Layout {
    versions: (0, 0),
    flexible: 0,
    fields: &[
        int32("throttle_time_ms"),
        int16("error_code"),
        string("error_message").nullable(0),
        array(
            "results",
            &[
                string("user"),
                int16("error_code"),
                string("error_message").nullable(0),
                array("credential_infos", &[int8("mechanism"), int32("iterations")]),
            ],
        ),
    ],
};
