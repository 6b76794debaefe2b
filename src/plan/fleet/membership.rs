//! How one becomes a member of a group and stays it, as a machine without sockets: [`Membership::next`] says what is to be asked of
//! the coordinator, [`Membership::answered`] takes the answer and says what follows for the shards. One thing is asked at a time.
//!
//! Errors and what they mean are those of Kafka's `AbstractCoordinator`. Nothing that a group does stops data: what a member owns
//! it keeps through a rebalance, and through being put out of the group, until it is told otherwise or fenced.

/// MEMBER_ID_REQUIRED: the coordinator has given an id, to be joined with (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 79;
const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const GROUP_MAX_SIZE_REACHED: i16 = 81;
/// FENCED_INSTANCE_ID: another process has joined under our instance id.
const FENCED_INSTANCE_ID: i16 = 82;

/// Between two tries where nobody answers, or the coordinator moves.
const PAUSE_MS: u64 = 250;
const PAUSE_MAX_MS: u64 = 5_000;
/// Between two tries where the group does not take us, which somebody has to put right.
const REFUSED_PAUSE_MS: u64 = 5_000;

/// On which terms to be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Who is not heard of for so long is put out.
    pub session_timeout_ms: u64,
    /// How often to be heard of.
    pub heartbeat_ms: u64,
    /// A static member's id (KIP-345): it comes back without a rebalance, and does not leave.
    pub instance_id: Option<String>,
    /// How often the leader has everybody say what it has to do, so that loads stay shared.
    pub survey_ms: u64,
}

/// What to ask of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// JoinGroup, under this member id; empty for a new one.
    Join {
        /// Member id.
        member: String,
    },
    /// SyncGroup. The leader gives the assignments: it is to compute them from [`Joined::members`].
    Sync {
        /// Member id.
        member: String,
        /// Generation that was joined.
        generation: i32,
        /// Whether the assignments are to come along.
        assigns: bool,
    },
    /// Heartbeat.
    Heartbeat {
        /// Member id.
        member: String,
        /// Generation.
        generation: i32,
    },
    /// LeaveGroup.
    Leave {
        /// Member id.
        member: String,
    },
}

/// JoinGroup's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Our member id.
    pub member: String,
    /// The new generation.
    pub generation: i32,
    /// The leader's member id.
    pub leader: String,
    /// Member ids with what they said; empty but for the leader.
    pub members: Vec<(String, Vec<u8>)>,
    /// A static member that came back gets the assignment it had: nothing is to be assigned, whoever leads (KIP-814).
    pub skip_assignment: bool,
}

/// What came of an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of JoinGroup.
    Joined(Joined),
    /// Of SyncGroup: our assignment.
    Synced(Vec<u8>),
    /// Of Heartbeat and LeaveGroup.
    Done,
    /// An error code, and the member id that may come with it.
    Refused(i16, String),
    /// None, or not in time.
    Silent,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask this.
    Ask(Ask),
    /// Nothing until then.
    Wait {
        /// Time, ms.
        until_ms: u64,
    },
    /// Nothing any more.
    Ended(End),
}

/// Why membership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was to leave.
    Left,
    /// Another process has joined under our instance id.
    Replaced,
    /// The coordinator refuses for good, by this code.
    Refused(i16),
}

/// What follows for the shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// To own what this generation's assignment says.
    Given {
        /// Generation.
        generation: i32,
        /// The assignment's bytes.
        assignment: Vec<u8>,
    },
    /// The group does not count on us any more: others take what we own. Nothing new is to be taken.
    Out,
    /// The group does not take us, by this code; somebody has to put that right.
    Obstacle(i16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Out,
    Joined { generation: i32, leads: bool, assigns: bool },
    Member { generation: i32, leads: bool },
    Leaving,
    Ended(End),
}

/// One's membership in a group.
#[derive(Debug, Clone)]
pub struct Membership {
    terms: Terms,
    member: String,
    state: State,
    not_before_ms: u64,
    failures: u32,
    /// When the coordinator last answered as to a member.
    heard_ms: u64,
    survey_at_ms: u64,
    rejoin: bool,
    hurries: bool,
    told_out: bool,
}

impl Membership {
    /// Of nobody yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            member: String::new(),
            state: State::Out,
            not_before_ms: 0,
            failures: 0,
            heard_ms: 0,
            survey_at_ms: 0,
            rejoin: false,
            hurries: false,
            told_out: true,
        }
    }

    /// Its generation, once it has an assignment of it.
    pub fn generation(&self) -> Option<i32> {
        match self.state {
            State::Member { generation, .. } => Some(generation),
            _ => None,
        }
    }

    /// Whether it is the leader, who is asked for loads and assigns.
    pub fn leads(&self) -> bool {
        matches!(self.state, State::Member { leads: true, .. } | State::Joined { leads: true, .. })
    }

    /// Its member id; empty where it has none.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The group may have gone on: that is asked at once, not when the next heartbeat is due.
    pub fn hurry(&mut self) {
        self.hurries = true;
    }

    /// What it says of itself has changed so much that the group should know.
    pub fn rejoin(&mut self) {
        self.rejoin = true;
    }

    /// It is to leave. A static member just ends: it is expected back.
    pub fn leave(&mut self) {
        self.state = match (&self.state, &self.terms.instance_id) {
            (State::Ended(end), _) => State::Ended(*end),
            (_, None) if !self.member.is_empty() => State::Leaving,
            _ => State::Ended(End::Left),
        };
        self.not_before_ms = 0;
    }

    /// What is to be done at this time.
    pub fn next(&mut self, now_ms: u64) -> Next {
        if let State::Ended(end) = self.state {
            return Next::Ended(end);
        }
        if now_ms < self.not_before_ms {
            return Next::Wait { until_ms: self.not_before_ms };
        }
        let member = self.member.clone();
        match self.state {
            State::Out => Next::Ask(Ask::Join { member }),
            State::Joined { generation, assigns, .. } => Next::Ask(Ask::Sync { member, generation, assigns }),
            State::Leaving => Next::Ask(Ask::Leave { member }),
            State::Ended(end) => Next::Ended(end),
            State::Member { leads, .. } if self.rejoin || (leads && now_ms >= self.survey_at_ms) => {
                Next::Ask(Ask::Join { member })
            }
            State::Member { generation, .. } => {
                let due = self.heard_ms + self.terms.heartbeat_ms;
                if now_ms < due && !self.hurries {
                    return Next::Wait { until_ms: due };
                }
                Next::Ask(Ask::Heartbeat { member, generation })
            }
        }
    }

    /// Takes the answer to what [`Self::next`] had asked.
    pub fn answered(&mut self, now_ms: u64, answer: Answer) -> Option<Told> {
        if let State::Leaving = self.state {
            // Whatever was said to it: the group notices by itself.
            self.state = State::Ended(End::Left);
            return None;
        }
        match answer {
            Answer::Silent => self.silent(now_ms),
            Answer::Refused(code, member) => self.refused(now_ms, code, member),
            Answer::Joined(joined) => {
                self.heard(now_ms);
                self.rejoin = false;
                let leads = joined.leader == joined.member;
                self.member = joined.member;
                let assigns = leads && !joined.skip_assignment;
                self.state = State::Joined { generation: joined.generation, leads, assigns };
                None
            }
            Answer::Synced(assignment) => {
                self.heard(now_ms);
                let State::Joined { generation, leads, .. } = self.state else { return None };
                self.state = State::Member { generation, leads };
                self.survey_at_ms = now_ms + self.terms.survey_ms;
                self.told_out = false;
                Some(Told::Given { generation, assignment })
            }
            Answer::Done => {
                self.heard(now_ms);
                None
            }
        }
    }

    fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.hurries = false;
        self.failures = 0;
        self.not_before_ms = 0;
    }

    fn silent(&mut self, now_ms: u64) -> Option<Told> {
        self.pause(now_ms);
        // The join or the sync is begun anew; a member that only was not heard goes on being heard.
        if let State::Joined { .. } = self.state {
            self.state = State::Out;
        }
        let overdue = now_ms > self.heard_ms + self.terms.session_timeout_ms;
        if overdue { self.out() } else { None }
    }

    fn out(&mut self) -> Option<Told> {
        let first = !std::mem::replace(&mut self.told_out, true);
        first.then_some(Told::Out)
    }

    fn pause(&mut self, now_ms: u64) {
        let pause = (PAUSE_MS << self.failures.min(8)).min(PAUSE_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms + pause;
    }

    fn refused(&mut self, now_ms: u64, code: i16, member: String) -> Option<Told> {
        match code {
            COORDINATOR_LOAD_IN_PROGRESS | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => {
                return self.silent(now_ms);
            }
            MEMBER_ID_REQUIRED => {
                self.member = member;
                self.state = State::Out;
            }
            REBALANCE_IN_PROGRESS => self.state = State::Out,
            // The group has gone on without us; who has our id still may be taken for the old member.
            UNKNOWN_MEMBER_ID | ILLEGAL_GENERATION => {
                if code == UNKNOWN_MEMBER_ID {
                    self.member.clear();
                }
                self.state = State::Out;
                return self.out();
            }
            FENCED_INSTANCE_ID => {
                self.state = State::Ended(End::Replaced);
                return self.out();
            }
            INCONSISTENT_GROUP_PROTOCOL | GROUP_MAX_SIZE_REACHED => {
                self.state = State::Out;
                self.not_before_ms = now_ms + REFUSED_PAUSE_MS;
                return Some(Told::Obstacle(code));
            }
            code => {
                self.state = State::Ended(End::Refused(code));
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
