//! What a brain that died leaves behind: nothing that still acts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_brain::models::{
    Error, ErrorKind, Model, ModelSpec, ProviderSpec, Registry, Request, Response, Sink,
};
use tokio::sync::watch;

use crate::bed::Bed;

/// A model that keeps its thread busy, where no cancellation is heard, until it is let go.
struct Busy {
    begun: watch::Sender<bool>,
    let_go: Mutex<mpsc::Receiver<()>>,
    done: Arc<AtomicBool>,
}

#[async_trait]
impl Model for Busy {
    async fn sample(&self, _: &Request, _: &mut dyn Sink) -> Result<Response, Error> {
        self.begun.send_replace(true);
        self.let_go.lock().unwrap().recv().unwrap();
        self.done.store(true, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Failed, "busy with something else"))
    }
}

/// security I5, I6: a wake that dies between two await points has come to the second one before its successor begins;
/// else its request would reach the model behind the successor's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i_5_no_wake_of_a_brain_that_died_still_acts() {
    let mut bed = Bed::asleep([]).await;
    let (let_go, held) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    let (begun, mut has_begun) = watch::channel(false);
    let model = Busy {
        begun,
        let_go: Mutex::new(held),
        done: Arc::clone(&done),
    };
    let mut models = Registry::empty();
    let spec = ModelSpec::new("claude-*", ProviderSpec::Scripted { script: None });
    models.add(spec, Arc::new(model)).unwrap();
    let hands = Arc::new(bed.hands.clone());
    bed.wake_with(models, hands);
    bed.say("Hi").await;
    has_begun.wait_for(|begun| *begun).await.unwrap();
    let death = tokio::spawn(async move { bed.end_brain().await });
    tokio::pin!(death);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut death).await;
    assert!(early.is_err(), "the wake is at work");
    let_go.send(()).unwrap();
    death.await.unwrap();
    assert!(done.load(Ordering::SeqCst));
}
