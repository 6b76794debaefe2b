//! A member's vigil over its fleet: gives signs of life, reads those of the others, and puts out who has fallen silent. What is to be
//! thought of what was read is [`crate::plan::fleet::Watch`]'s to say; here are the socket and the clock.
//!
//! It goes on while the membership waits at the coordinator: a rebalance that waits for one that has died meanwhile is just when
//! it is needed.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{ClientError, Cluster, GroupSeat};
use crate::mirror::state_topic;
use crate::plan::fleet::{Post, Round, Sign, Suspect, Watch, sign_every_ms};

use super::count_error;
use super::membership::ms;

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const FENCED_INSTANCE_ID: i16 = 82;
/// What the membership has not looked at yet; more is news of the same.
const NEWS: usize = 8;

/// What the membership should know.
#[derive(Debug)]
pub(super) enum News {
    /// These were put out.
    PutOut(Vec<Suspect>),
    /// The group has gone on: the coordinator is to be asked at once.
    GoneOn,
}

/// A vigil that is kept until this is dropped.
#[derive(Debug)]
pub(super) struct Vigil {
    post: watch::Sender<Option<Post>>,
    news: mpsc::Receiver<News>,
    keeper: Keeper,
    task: JoinHandle<()>,
}

/// Who keeps it.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    pub(super) mirror: String,
    pub(super) host: String,
    pub(super) target: Cluster,
    pub(super) seat: GroupSeat,
    pub(super) suspect_after: Duration,
}

impl Vigil {
    /// Begins it; nothing is done before there is a post.
    pub(super) fn begin(keeper: Keeper) -> Self {
        let (post, posted) = watch::channel(None);
        let (told, news) = mpsc::channel(NEWS);
        let task = tokio::spawn(keeper.clone().keep(posted, told));
        Self { post, news, keeper, task }
    }

    /// From now on signs are given there, or nowhere.
    pub(super) fn post(&self, post: Option<Post>) {
        self.post.send_if_modified(|before| {
            let is_news = *before != post;
            *before = post;
            is_news
        });
    }

    /// What has happened.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// What has happened already.
    pub(super) fn news_at_once(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Ends it. Who is expected back says so: it would be put out otherwise.
    pub(super) async fn end(self, is_expected_back: bool) {
        self.task.abort();
        let post = self.post.borrow().clone();
        let Some(post) = post.filter(|_| is_expected_back) else { return };
        let given = self.keeper.give(&post, i64::MAX, true);
        if !matches!(timeout(self.keeper.suspect_after, given).await, Ok(Ok(()))) {
            tracing::warn!(mirror = %self.keeper.mirror, group = %self.keeper.seat.group,
                "the others could not be told that this instance will be back; they may take its shards");
        }
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    async fn keep(self, mut posted: watch::Receiver<Option<Post>>, news: mpsc::Sender<News>) {
        let began = Instant::now();
        let mut watch = Watch::new(ms(self.suspect_after));
        let (mut count, mut complained) = (0, false);
        loop {
            let post = posted.borrow_and_update().clone();
            let Some(post) = post else {
                match posted.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            count += 1;
            watch.begin(&post);
            match timeout(Duration::from_millis(watch.patience_ms()), self.round(&mut watch, &post, count, began)).await
            {
                Ok(Ok(suspects)) => {
                    complained = false;
                    self.put_out(&mut watch, suspects, &news).await;
                }
                Ok(Err(error)) => {
                    watch.broken();
                    let code = error.code().unwrap_or_default();
                    if [ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID].contains(&code) {
                        let _ = news.try_send(News::GoneOn);
                    } else if code != REBALANCE_IN_PROGRESS && !std::mem::replace(&mut complained, true) {
                        tracing::warn!(mirror = %self.mirror, group = %self.seat.group, %error,
                            "no sign of life can be given to the fleet, trying again; nobody is suspected meanwhile");
                    }
                }
                Err(_) => {
                    watch.broken();
                    self.target.doubt_member_coordinator(&self.seat.group);
                    // It was waited for.
                    continue;
                }
            }
            tokio::select! {
                () = sleep(Duration::from_millis(watch.every_ms())) => {}
                _ = posted.changed() => {}
            }
        }
    }

    async fn give(&self, post: &Post, count: i64, is_last: bool) -> Result<(), ClientError> {
        let (member, host) = (post.member.clone(), self.host.clone());
        let every_ms = sign_every_ms(ms(self.suspect_after));
        let sign = Sign { member, generation: post.generation, host, every_ms, is_last };
        self.target.give_sign(&self.seat, (&state_topic(&self.mirror), post), (count, &sign)).await
    }

    async fn round(
        &self,
        watch: &mut Watch,
        post: &Post,
        count: i64,
        began: Instant,
    ) -> Result<Vec<Suspect>, ClientError> {
        let begun_ms = ms(began.elapsed());
        self.give(post, count, false).await?;
        let seen = self.target.read_signs(&self.seat, &state_topic(&self.mirror)).await?;
        Ok(watch.ended(Round { begun_ms, ended_ms: ms(began.elapsed()), count, seen: &seen }))
    }

    /// Whoever cannot be put out stays suspected, and is tried again after the next round.
    async fn put_out(&self, watch: &mut Watch, suspects: Vec<Suspect>, news: &mpsc::Sender<News>) {
        if suspects.is_empty() {
            return;
        }
        let members: Vec<String> = suspects.iter().map(|suspect| suspect.member.clone()).collect();
        let asked = timeout(self.suspect_after, self.target.put_out(&self.seat, &members)).await;
        let gone = match asked {
            Ok(Ok(gone)) => gone,
            Ok(Err(error)) => {
                tracing::warn!(mirror = %self.mirror, group = %self.seat.group, ?members, %error, "silent instances cannot be put out of the fleet");
                return;
            }
            Err(_) => return self.target.doubt_member_coordinator(&self.seat.group),
        };
        members.iter().for_each(|member| watch.forget(member));
        let (ours, others): (Vec<Suspect>, _) =
            suspects.into_iter().partition(|suspect| gone.contains(&suspect.member));
        for Suspect { member, host, silent_ms } in &ours {
            count_error(&self.mirror, "instance_silent");
            tracing::warn!(mirror = %self.mirror, group = %self.seat.group, member, host, silent_ms,
                "the instance has given no sign of life: put out of the fleet, its shards are shared out");
        }
        for Suspect { host, silent_ms, .. } in &others {
            tracing::info!(mirror = %self.mirror, group = %self.seat.group, host, silent_ms, "the instance is silent, and was put out already");
        }
        let told = if ours.is_empty() { News::GoneOn } else { News::PutOut(ours) };
        let _ = news.try_send(told);
    }
}
