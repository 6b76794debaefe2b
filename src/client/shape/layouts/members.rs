//! Layouts of what a coordinator answers to a group's members.

use super::super::Layout;
use super::{array, boolean, bytes, int16, int32, string};

pub(super) const JOIN_GROUP: Layout = Layout {
    versions: (0, 9),
    flexible: 6,
    fields: &[
        int32("throttle_time_ms").since(2),
        int16("error_code"),
        int32("generation_id"),
        string("protocol_type").since(7).nullable(7),
        string("protocol_name").nullable(7),
        string("leader"),
        boolean("skip_assignment").since(9),
        string("member_id"),
        array("members", &[string("member_id"), string("group_instance_id").since(5).nullable(5), bytes("metadata")]),
    ],
};

pub(super) const SYNC_GROUP: Layout = Layout {
    versions: (0, 5),
    flexible: 4,
    fields: &[
        int32("throttle_time_ms").since(1),
        int16("error_code"),
        string("protocol_type").since(5).nullable(5),
        string("protocol_name").since(5).nullable(5),
        bytes("assignment"),
    ],
};

pub(super) const HEARTBEAT: Layout =
    Layout { versions: (0, 4), flexible: 4, fields: &[int32("throttle_time_ms").since(1), int16("error_code")] };

pub(super) const LEAVE_GROUP: Layout = Layout {
    versions: (0, 5),
    flexible: 4,
    fields: &[
        int32("throttle_time_ms").since(1),
        int16("error_code"),
        array("members", &[string("member_id"), string("group_instance_id").nullable(3), int16("error_code")]).since(3),
    ],
};
