//! Judging the calls of an answer before it is written (runtime TC-8): what an answer says about a call is final.

use futures::stream::{self, StreamExt};
use manyhands_store::listing::EventRange;
use tokio::time::Instant;

use super::{Stop, Wake, heard};
use crate::activity::Doing;
use crate::answer::{Judgements, unjudged};
use crate::judge::{self, Judged, judgement};
use crate::models::Response;
use crate::replay;

/// Messages of the user that a judge sees: the latest.
const MESSAGES: u32 = 32;

impl Wake {
    /// What is found about the calls of an answer, before an interrupt or a long silence of the judge: the rest is left
    /// undecided.
    pub(super) async fn judge(&mut self, response: &Response) -> Result<Judgements, Stop> {
        let mut judgements = Judgements::new();
        let Some(judge) = self.shared.config.judge.clone() else {
            return Ok(judgements);
        };
        let most = self.shared.config.calls_per_response;
        let calls = unjudged(response, self.tools(), most);
        if calls.is_empty() {
            return Ok(judgements);
        }
        let said = self.said_by_the_user().await?;
        let limit = self.shared.config.judge_patience + self.shared.config.watchdog.grace;
        self.enter(Doing::Judging, limit);
        let session = self.lease.session.clone();
        let patience = self.shared.config.judge_patience;
        let parallel = self.shared.config.parallel_calls.max(1);
        let judging = calls.into_iter().map(|call| {
            let (judge, said, session) = (judge.clone(), said.clone(), session.clone());
            async move {
                let (tool, input) = (call.tool, call.input);
                let judged = Judged {
                    session,
                    tool,
                    input,
                    said,
                };
                let found = judgement(&*judge, &judged).await;
                (call.index, found)
            }
        });
        let mut judging = stream::iter(judging).buffer_unordered(parallel).boxed();
        let silence = tokio::time::sleep(patience);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                biased;
                found = judging.next() => match found {
                    Some((index, found)) => {
                        self.activity.progress();
                        silence.as_mut().reset(Instant::now() + patience);
                        judgements.insert(index, found);
                    }
                    None => return Ok(judgements),
                },
                () = &mut silence => {
                    judge::failed(&self.lease.session, &"it has been silent for too long");
                    return Ok(judgements);
                }
                () = heard(&mut self.signal, self.shared.config.tick) => {
                    self.catch_up().await?;
                    if self.transcript.is_interrupted() {
                        return Ok(judgements);
                    }
                }
            }
        }
    }

    /// The texts of the user's latest messages, oldest first, also of those that wait. They are read from the log, where
    /// nothing else can pass for one (runtime TC-9), and where no compaction has shortened them.
    async fn said_by_the_user(&self) -> Result<Vec<String>, Stop> {
        let range = EventRange {
            types: vec!["user.message".to_owned()],
            descending: true,
            limit: MESSAGES,
            ..EventRange::default()
        };
        let listed = self
            .shared
            .store
            .list_events(&self.lease.session, &range)
            .await?;
        let listed = listed.iter().rev();
        Ok(listed
            .flat_map(|(_, entry)| replay::texts(&entry.body))
            .collect())
    }
}
