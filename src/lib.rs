//! kmirror keeps a standby Kafka cluster ready to take over. It speaks the Kafka protocol itself, copies record batches
//! without opening them, and knows for every record of the source the exact offset it has on the target.
//!
//! # The walk of a batch
//!
//! 1. [`engine`]'s *fetcher* asks a source partition leader for bytes, within a lease of the memory budget: as many as pay for
//!    the round trip, and no more (`engine::fetcher::Pace`).
//! 2. [`client`] hands the response out as slices of one buffer; the batches in it are never copied again. With the last slice
//!    the buffer goes back to the budget's pool.
//! 3. [`mirror`]'s *intake* looks at the 61 header bytes of each batch ([`batch`]): control batches, aborted data and
//!    what compaction left become gaps with a reason; the few batches that the target would refuse are re-encoded.
//! 4. Where source and target offsets stop running in step, a *break* of the offset map is noted, and acknowledged in
//!    the state topic before the first batch that needs it is sent (write-ahead).
//! 5. [`mirror`]'s *appender* binds the batch to the target offset T that it must land on and stamps the header: its
//!    sequence is T less the origin of the producer epoch. The checksum follows by arithmetic; the target checks the
//!    payload against the source's own checksum. Small batches that wait there are joined right before they go, never
//!    after (`mirror::append`, its `coalescing`): the one place where payload is copied.
//! 6. A *lane* of the engine writes header and payload to the target partition's leader, vectored, acks=all. To the
//!    broker it says "append at T, or tell me" (compare-and-append).
//! 7. The answer settles the batch. Nothing else is stored: the position is the inverse of the settled end.
//!
//! # The code map
//!
//! Data walks through the rooms in this order, and a module imports only what stands above it (a test holds that):
//! [`batch`] → [`mirror`] → [`groups`] → [`plan`] → [`config`] → [`client`] → [`engine`] → [`ops`] → [`observe`] → [`broker`] →
//! [`backup`] → [`cli`]. `batch`, `mirror`, `groups` and `plan` know no socket, file, clock or random source: time and bytes are passed in.
//! `broker` (the embedded broker of the demo and the tests) uses `batch` and the message types only, so that it stays an
//! oracle for the rest.
//!
//! # Invariants
//!
//! - No batch is sent before the map breaks that it needs are acknowledged.
//! - A partition has one writer: the newest producer epoch whose marker stands in its log. Older ones get
//!   INVALID_PRODUCER_EPOCH from the broker, not from us.
//! - A batch is sent again byte for byte, or not at all.
//! - A batch whose outcome is unknown (bytes of it may have left) and that the broker may have forgotten is never sent
//!   again: its partition is taken over and settled instead.
//! - Every source offset below the position is either mapped or in a gap with a reason.
//! - A partition whose state is not understood stands still and says why; the others go on.
//! - Every queue is bounded: bytes by the budget (`limits.memory`), requests by lane depth and window, breaks by the
//!   bytes that wait for them.
//!
//! # Taking over
//!
//! Every start takes its shards: Init → state marker → read state and control → data markers → complete → settle →
//! origin record → produce ([`engine`]: `shard`, `markers`, `settle`, `attach`). A shard is the unit of ownership; it
//! has one transactional id, one partition of the state topic `__kmirror.<mirror>`, and the data partitions whose
//! topic id and number hash to it. A clean stop releases its partitions, and they go on unmarked.
//!
//! # Promotion
//!
//! A failover is a take-over by an owner that produces nothing (`ops::failover`, `engine::attach`'s `promote`): *announce* in the control
//! partition, take all shards, mark and settle all partitions, apply what was held back, *done*. Everything it needs to go on after
//! a crash, or to report, stands in the state topic: what the mirror saw of the source last (`StateRecord::Seen`), how its topics were
//! configured (`ControlRecord::SourceConfigs`), which steps are through.
//!
//! # Backup and restore
//!
//! A pass ([`backup`]) reads what is new of every partition, up to the last stable offset, into segments of raw batches, and counts once its
//! manifest is written; a conditional write decides between two writers. A restore is a mirror whose source is the archive: the embedded
//! broker serves the archive's logs ([`broker::Backing`]) under the source's own cluster id, topic ids, offsets and leader epochs, to this process alone
//! (it asks for a client id that nobody else knows), and the engine and the promotion do the rest. So there is one map for both worlds: a standby can be
//! filled from an archive under its mirror's name, and the mirror goes on from there on the live source. A replay (`backup::replay`) is none: it appends
//! records of an archive to a topic that others write to, and knows them again by their headers.
//!
//! A restore to identical offsets ([`backup::identical`]) has a writer of its own: a mirror marks a partition at each take-over, and a marker
//! takes an offset. It keeps no state: what is on the target says how far it is, and a mark in the topic's configuration whose it is.
//!
//! # What a broker promises
//!
//! Measured on Kafka 4.3.1 and 3.9.1 (`proto-tests/` holds it there and against the embedded broker):
//!
//! - A batch needs base offset 0, one batch per partition and request, count = last offset delta + 1, no control bit.
//! - The same (epoch, first, last) sequence within the last five batches is a duplicate: answered with its offset,
//!   nothing appended. It is told by range, not by content.
//! - A producer id for which the partition holds no state may begin with any sequence.
//! - Sequences wrap at 2^31; an older epoch is refused; a newer one must begin at 0.
//! - Producer state expires by the age of the *records*: a backfill of old records loses it within minutes.
//! - EndTxn's answer is not the fence, the marker in the log is.
//!
//! # What costs what
//!
//! A mirror stays on one thread; there are as many threads as cores, or as mirrors where those are fewer. An event costs what it is about: no queue, session or table of partitions is walked for it. What
//! time alone brings about is looked for when the earliest known time has come, and at most every 20 ms (`engine::runner`, `due`).
//! Three quarters of the CPU time are the kernel's: a copy in, a copy out, and TCP. User space is slow for what it does, as the copies
//! leave nothing of it in the caches: what counts is how often the thread wakes up, more than what it does then. So a reader waits
//! until all that is missing of a large answer is there, where the broker is near (`client::transport::low_water`), and answers are 2 MiB (`engine::fetcher`): together
//! a sixth less CPU per GB with real brokers (0.57 against 0.68 CPU s/GB in five pairs of runs). What was tried beyond that and did not
//! pay, measured on Linux 6.18 with both brokers on the same machine (where TCP's congestion control is BBR, its pacing is a timer for each
//! packet, loopback included: a relay took 0.30 CPU s/GB with it and 0.20 with CUBIC, kmirror between ends that cost nothing 0.52
//! and 0.42):
//!
//! - *splice(2)* (payload from socket to socket through a pipe, with tee(2) for what may have to go again): the references to
//!   pages cost what the two copies cost (0.50 to 0.57 CPU s/GB in batches of 128 KiB, a copying relay 0.34 to 0.55), and small
//!   batches far more. So does *sendfile(2)* from memory that answers are received into (a plain relay: 0.29 to 0.39, copying 0.27
//!   to 0.33).
//! - *Cut-through* (an answer read and sent on 256 KiB at a time, so that these stay in the cache): a plain relay takes 0.25 to
//!   0.32 CPU s/GB that way, and 0.24 to 0.32 by the MiB.
//! - *Two fetchers a source broker*: 15 % more GB/s between ends that cost nothing, but 6 % more CPU per GB and 10 MB more memory
//!   with real brokers, where the machine sets the pace.
//! - *mimalloc*: no less CPU, twice the memory. *Transparent huge pages* for buffers (glibc's tunable): 10 % more CPU.
//!
//! # Non-obvious
//!
//! - **A refused batch that was joined says nothing of its parts.** It is taken apart and they go one by one, so that a halt, and
//!   an accepted loss, is about the one batch that is refused. Not where an earlier try of it may have been appended: then
//!   the partition is taken over.
//! - **Two that start at once.** Shards are taken side by side, so each of two processes can take some from the other, and
//!   if losing one ended a process, both would end. Whoever loses a shard while it still takes others owns nothing yet and
//!   begins anew after a pause of its own length; and once all are taken, each is written to once more before anything is
//!   attached. If both passed that, each would have taken its last shard before the other did (`engine::shard_worker`,
//!   `ShardLog::confirm`). From there on a fence is final. (Where a shard cannot be taken, the others go on without it after ten
//!   seconds.)
//! - **Control is read once more when the shards are taken.** A promotion announces itself, then fences. A start that read control
//!   before the announcement and took its shards after the fence would own them: its watch of the control partition may be slow, or
//!   that partition's leader away. So nothing is attached before control was read behind the last shard that was taken
//!   (`engine::runner::noting`, `ask_control`): whoever fenced before us had announced it by then, and whoever takes the shard later
//!   fences us.
//! - **A session's answer tells of what it does not name.** An incremental fetch leaves out partitions without news; that their ends
//!   have not moved is news for the loss manifest. So a partition was last heard of when its session last answered, and that is put
//!   to the partition's own account when the session ends (`engine::runner::noting`, `end_session`).
//! - **Behind a fence the target is its own.** Offsets behind the settled end are not the mirror's once it was promoted, though its
//!   map would go on: `status` and `translate` stop at the end on record (`ops::MirrorState::promoted_end`).
//! - **A response to another question.** A partition can be reset, or move to another broker, while a fetch for it
//!   is under way. Records behind an offset that was not asked for would look like a compaction hole in front of
//!   them. The runner remembers what each partition was asked for and drops any other answer
//!   (`engine::runner::fetching`, `Part::asked`). A partition that is attached anew right where the session asks already
//!   must be noted as asked again, or every later answer is dropped while the broker sends the same bytes without pause.
//! - **The settled end has a floor.** Data below the newest fixed segment of the map is on record; it may be of a branch
//!   that the source has lost, or of a topic that was made again. Taken for the last batch of ours it would lead the
//!   position back to what is no more (`mirror::data_end`).
//! - **A displacement is a fact of the log**, whatever policy says about who caused it: it is written down before a halt,
//!   all of them are, and a batch's own sequence tells one that a crash kept from being written.
//! - **Retention behind the position is not always a loss.** Markers and aborted data behind the last record are read and
//!   leave no trace on the target; that they were is noted (`scanned`), at a stop and every half minute,
//!   with the target's end at that time: it holds over a take-over that finds the same end.
//! - **No marker before its partition is served.** Metadata name a leader before that broker holds the partition. A broker
//!   that gets markers of several transactions in one WriteTxnMarkers request (they are collected per broker) and does not
//!   hold the partition of the last of them never answers: the coordinator asks again after `request.timeout.ms`, 30 s, and
//!   every transaction in the request stands in PrepareAbort until then, though its marker may be in the log. So the
//!   leaders are asked first (`engine::markers::write_markers`), and a transaction that some other client's partition holds
//!   up is waited for longer than that (`client::transactions`).
//! - **Nothing stands behind a read that waits for news.** A broker answers a connection's requests in order; new topics
//!   once stood behind the watch of the control partition, a second each (`client::cluster`, its lanes).
//! - **ListOffsets asks as replica −1.** The message's default, 0, makes the broker take us for a follower: it passes the
//!   isolation level over and answers with the log end.
//! - **Breaks of a flow that ends must not follow its end into the log**: they are steps from segments that an origin or a
//!   displacement has replaced. Whoever ends a flow drops those that were not handed over (`Runner::drop_breaks`).
//! - **Hidden is not gone.** Asked for all topics, a cluster leaves out what the principal may not see. So the mirrored ones that
//!   it does not list are asked for by name; and what an answer says of a topic without naming its partitions says nothing of
//!   their leaders: those known are asked, and tell each partition what is wrong (`client::metadata`, `engine::topology`).
//! - **Offsets are asked for by name.** ListOffsets knows no topic ids, nor does Fetch below v13, so an answer may be of a topic that
//!   was made again under the name. Before a source log counts as truncated, overtaken by retention or different, the leader that
//!   said so is asked whether the topic is the same still (`Cluster::is_same_topic`).
//! - **`start: latest` before the first record.** The start is written as the map's first break when the partition is
//!   declared, not when its first batch comes: else a restart in between would start at a later "latest".
//! - **What could not begin at the first start still begins there.** A partition without a leader, or whose target holds
//!   foreign data, is declared with the source offset that `start:` named (`StateRecord::Pending`): by the time it can begin,
//!   `latest` would mean something else, and `earliest` is for what appeared later.
//! - **A forgotten transactional id fences nobody.** Init gives another producer id then, and the old owner's writes go on.
//!   The new owner's id is written down together with the halts of what could not be fenced: the next start finds its own id
//!   on record and would see nothing amiss. State records of the old id behind it are void (`engine::shard::replay`).
//! - **A fence is forgotten, but not by the coordinator.** Who slept for longer than the target remembers producers would not be
//!   refused any more by the partitions. So nothing is written later than a lease after the coordinator has last confirmed the
//!   shard (an empty aborted transaction; a quarter of `producer.id.expiration.ms`, two minutes at most): data by
//!   `Runner::may_write`, what is on its way to a lane by `Flight::lease`, state by `shard_worker::within_lease`.
//! - **A lost state must not pass for a new mirror.** Its partitions would be copied a second time, and `start: latest` would
//!   mean another offset. A target that bears data under the very producer id that the coordinator has just given us halts as
//!   `state_lost`, whatever policy says (`engine::attach::fresh`); and a state log that begins neither at 0 nor with a snapshot
//!   is cut off (`engine::replay`).
//! - **The leader is asked for our last sequence before our marker.** With the epoch that it brings, sequences count anew,
//!   and the end of a log that retention has emptied is told by nothing else (`engine::attach::settled`).
//! - **A shard without partitions has a baseline too.** `start:` applies to what existed at the mirror's first start;
//!   a shard that was empty then must not apply it to the first topic that appears later.
//! - **A displacement may be found late.** A coordinator repeats a marker, the batch behind it lands one further up, and a
//!   crash comes before the answer: the batches' own sequences tell, so the take-over writes it down (`mirror::realign`).
//!   Several are written down in turn, each reaching to the end of the last one (`mirror::in_turn`): a record voids what
//!   was written ahead beyond its end, which the next one needs.
//! - **A loss is not noted as read.** `scanned` stops in front of it; noted, it would pass for markers after a restart.
//! - **A truncation leads back to a record, not to a gap.** The broker tells truncations by the leader epoch in front of the
//!   offset that is asked for (KIP-320), and only records have theirs in the map. Begun behind a gap, a fetch would name none,
//!   and a second truncation, into the gap, would not be told once the log has grown again (`mirror::go_back`).
//! - **A fence can be forgotten.** Producer state expires by the age of the records, and with it the epoch that a marker
//!   set: a request of an older epoch that comes late enough is let in. A batch of another epoch behind the origin is
//!   therefore not ours (`mirror::is_ours`), and stops the partition.
//! - **A failover that goes on does not know whom its first call put aside.** Where the coordinator had forgotten the owner, the first
//!   call writes an id of its own over the owner's before it has fenced that one, and the next call finds its own id there. So whoever
//!   goes on with a promotion fences every id that ever owned the shard (`ops::failover`, its fence).
//! - **The high watermark is asked for before the last stable offset.** The other way round every busy partition would look
//!   as if a transaction held it back (`ops::status`). How long it has stood there is known to the running mirror only; one
//!   look has the timestamp of the record there, which a producer chose.
//! - **Under a bandwidth limit what is known to wait is left out of the fetch session** but for who is next in turn. A broker
//!   fills an answer in the session's order: a topic with eight partitions got nine times as much as one with a single partition,
//!   and a trickle waited for forty partitions of another. What is not known to wait stays in the session, so that its news show
//!   (`engine::turns`).
//! - **Signs of life are commits, not control records.** The control partition can veto a promotion, so nothing is ever deleted there, and what
//!   is written five times a second would have to be. Offsets that members commit to the fleet's group are compacted by Kafka, refused to whoever is not a
//!   member any more, and kept by the very coordinator that would put a silent one out: where it is away there is neither news nor judgement
//!   (`plan::fleet`, `suspicion`).
//! - **Whose an offset on the target is.** A group's offset there is overwritten only where it is known to be ours, so what is
//!   sent is noted before it is sent: without an answer it may have been taken, and would pass for somebody's progress
//!   (`groups::Ledger`). The right value is written again whoever wrote it: that changes nothing, and makes it ours. A restart does
//!   not know the ledger any more; for groups that somebody has consumed with on the target it is noted there beforehand, as the
//!   offsets of a group beside each (`ops::groups`, its notes).
//! - **Groups before logs before maps.** A committed offset is translated by ends that are younger than it, and a target's end by a
//!   map that is younger still (breaks are written ahead). The other way round a group could be taken beyond what is mapped, or its
//!   offset for one that the log has lost. (`ops::groups::gather`, `read`.)
//! - **What stands behind our records on the target need not be ours.** Until the mirror writes again nobody has noticed; a group
//!   that is ahead of it would go on behind somebody else's records. So ends are those that the running mirror knows of, or
//!   those of the last batch under one of its producer ids (`ops::groups`, its read).
//! - **A committed leader epoch may be ahead of the record in front of it.** Whoever begins at "latest" gets the leader's epoch,
//!   which may have no record yet. So the epoch contradicts the log only as KIP-320 has it: where it ends before the offset.
//!   (And where all that is mirrored behind the offset is older: then a truncation of the source may not have been seen.)
//! - **Where two logs part is told by records, not by offsets.** An old source that lost its end and went on has records at the
//!   offsets that were mirrored, only other ones. So a failback compares the last record that both should have, and searches by
//!   halves where it differs (`ops::failback`, its `parting`).
//! - **A new generation is written last.** A failback puts maps into the shards under the transactional ids of the generation to
//!   come, and then begins it: a run that is cut short in between leaves the promotion standing, and no mirror starts on half of
//!   the maps (`ops::failback`, its `seed`).
//! - **A replay never sends a batch again whose answer is lost.** Its records are old, and a broker forgets a producer by the age of its
//!   records: sent again, the batch could land twice. Its partition is fenced anew and read up to the marker, where the batch
//!   stands or never will (`ops::replaying`). For the same reason it asks the coordinator once a lease whether it is still the only one.
//! - **A note of how far a replay came is true for ever.** It says up to which source offset everything is on the target, and from which
//!   target offset on what is beyond it stands. So any note serves, and one that is written late by a call that was overtaken
//!   does no harm (`backup::replay`, its journal).
//! - **Time of day may go back.** Pauses and the age of records go by a clock that does not (`mirror::Clock`).
//! - **What fills an offset that must stay empty.** Records of an aborted transaction are shown to read_uncommitted consumers, which is what
//!   consumers are unless they say otherwise; a control marker is shown to nobody. A coordinator writes one for a transaction, which takes
//!   several requests; with rights on the cluster one request writes hundreds, under a producer id that has no transaction open
//!   (`backup::identical`, its partition). They carry no sequence, so a lost answer is settled by the log's end once that stands still.
//! - **The configs of a restored topic come last.** Under its own `retention.ms` an old topic would be deleted while it is filled, and under its
//!   own `cleanup.policy=compact` DeleteRecords is refused, and so are the records without a key that are written in front of its first one.
//! - **A session is renewed between requests.** A broker takes nothing else from SaslHandshake to the last SaslAuthenticate, and ends a
//!   connection whose session is over by its first request. So what is submitted meanwhile is put aside and keeps its order (a lane's
//!   sequences would break on a second connection); what shows who we are is fetched before that (`client::renewal`).
//! - **A changed file is read when it stands still.** Half of a file that is being written may be a valid one with fewer mirrors
//!   (`cli::run`, its watch). A dry run looks at it without its counting as read: who asked what would change has not asked for it not to.
//! - **A connection is replaced between requests.** With other credentials a lane's next request goes on another connection, where it could
//!   overtake what is under way on the old one: sequences would break. So a lane waits until its answers are there
//!   (`engine::lane`, eras of `client::Cluster`); other calls on the same slot leave the old connection open until then.
//! - **A partition leaves alone.** Its release stands behind its last break in the shard's queue, so it may be written while the others of the shard
//!   go on. Until it is acknowledged the partition is not attached again, and then only once a discovery has found its topic: it may have been
//!   made again meanwhile (`engine::runner::reloading`).
//! - **A mirror that starts waits for those that stop.** A mirror under another name may write where one has written that leaves the file
//!   with the same change (`cli::run`, its fleet).
//! - **A refusal is shared.** A mirror opens a dozen connections, and each would try a wrong password every two seconds: a user is locked
//!   out by less. One of them tries after each pause, the others are told what it was told (`client::refusals`).
//! - **A count on the wire is not believed.** kafka-protocol allocates an array by its count: 2^31 in a frame of twenty bytes
//!   would end the process. So every response is walked by its layout before it is decoded, and a request whose response
//!   has no layout does not compile (`client::shape`).
//! - **kafka-protocol's `records` module is not on the data path**: it loses duplicate header keys, recomputes
//!   last_offset_delta, and fails a whole response for a truncated last batch.

pub mod backup;
pub mod batch;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod groups;
pub mod mirror;
pub mod observe;
pub mod ops;
pub mod plan;
