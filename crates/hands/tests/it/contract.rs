//! What every provider promises, run on each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use manyhands_hands::provider::Variables;
use manyhands_hands::provider::fake::Fake;
use manyhands_hands::{Advice, Call, Error, Output, Provider, Recipe, Sandbox};
use serde_json::json;

use crate::containers::Containers;
use crate::host::{Host, PATIENCE, call, text};

/// Prints a word.
const SAY: &str = "echo word";
/// Runs for ever.
const HANG: &str = "sleep 100000";
/// How soon a sandbox that has gone is noticed (security TOOL-3).
const NOTICED: Duration = Duration::from_secs(10);
/// Counts how often it has run.
const COUNT: &str = "echo line >> ledger; wc -l < ledger";

struct Subject {
    provider: Arc<dyn Provider>,
    /// Ends a session's sandbox behind the provider's back.
    lose: Box<dyn Fn(&str) + Send + Sync>,
}

fn fake() -> Subject {
    let count = Arc::new(AtomicU64::new(0));
    let provider = Fake::new().with_tool("bash", move |call: Call| {
        let count = Arc::clone(&count);
        async move {
            match call.input["command"].as_str() {
                Some(SAY) => Output::text("word"),
                Some(COUNT) => Output::text((count.fetch_add(1, Ordering::SeqCst) + 1).to_string()),
                _ => std::future::pending().await,
            }
        }
    });
    let same = provider.clone();
    Subject {
        provider: Arc::new(provider),
        lose: Box::new(move |session| same.lose(session)),
    }
}

fn namespace() -> Subject {
    let host = Host::new();
    let provider = Arc::new(host.provider.clone());
    let lose = Box::new(move |session: &str| host.lose(session));
    Subject { provider, lose }
}

/// Sandboxes of name spaces that have waited for their sessions.
fn waiting() -> Subject {
    let host = Host::with(|config| config.warm = 2);
    let provider = Arc::new(crate::pool::Waiting::new(host.provider.clone()));
    let lose = Box::new(move |session: &str| host.lose(session));
    Subject { provider, lose }
}

fn container() -> Subject {
    let host = Containers::new();
    let provider = Arc::new(host.provider.clone());
    let lose = Box::new(move |session: &str| host.kill(session));
    Subject { provider, lose }
}

/// Containers that get out over the engine's streams.
fn carried() -> Subject {
    let host = crate::container_door::streams(&crate::door::Porter::new("gate"));
    let provider = Arc::new(host.provider.clone());
    let lose = Box::new(move |session: &str| host.kill(session));
    Subject { provider, lose }
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod of_fake {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tokio::time::timeout(super::PATIENCE, super::$name(super::fake())).await.expect("it ends");
            })*
        }
        mod of_namespace {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tokio::time::timeout(super::PATIENCE, super::$name(super::namespace())).await.expect("it ends");
            })*
        }
        mod of_waiting {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tokio::time::timeout(super::PATIENCE, super::$name(super::waiting())).await.expect("it ends");
            })*
        }
        mod of_carried {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tokio::time::timeout(super::PATIENCE, super::$name(super::carried())).await.expect("it ends");
            })*
        }
        mod of_container {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tokio::time::timeout(super::PATIENCE, super::$name(super::container())).await.expect("it ends");
            })*
        }
    };
}

contract!(
    provision_is_single_flight_and_find_never_starts,
    i4_a_call_id_runs_once,
    i4_a_call_outlives_whoever_asked,
    i4_a_forgotten_call_never_runs_again,
    lease_1_an_older_epoch_is_refused,
    lease_1_an_older_owner_gets_no_sandbox,
    tool_1_a_kill_ends_the_call_and_the_next_one_works,
    tool_3_a_lost_sandbox_is_an_unknown_outcome_and_the_next_call_gets_another,
    tl_20_a_call_ends_at_its_deadline,
    release_and_destroy_end_it_and_can_be_repeated,
    a_tool_that_does_not_exist_is_an_error_result,
    sbx_2_the_probe_says_that_it_is_usable,
);

async fn provision_is_single_flight_and_find_never_starts(Subject { provider, .. }: Subject) {
    let recipe = Recipe::new("sesn_a", 1);
    assert!(provider.find("sesn_a", 1).await.unwrap().is_none());
    let all = futures::future::join_all((0..5).map(|_| provider.provision(&recipe))).await;
    let instances: Vec<_> = all
        .into_iter()
        .map(|sandbox| sandbox.unwrap().instance().to_owned())
        .collect();
    assert!(
        instances.iter().all(|instance| *instance == instances[0]),
        "{instances:?}"
    );
    assert_eq!(
        provider
            .find("sesn_a", 1)
            .await
            .unwrap()
            .unwrap()
            .instance(),
        instances[0]
    );
    assert!(provider.find("sesn_b", 1).await.unwrap().is_none());
    let other = provider.provision(&Recipe::new("sesn_b", 1)).await.unwrap();
    assert_ne!(other.instance(), instances[0], "a session has its own");
}

/// security I5 as well
async fn lease_1_an_older_owner_gets_no_sandbox(Subject { provider, .. }: Subject) {
    let recipe = |epoch| Recipe::new("sesn_a", epoch);
    let first = provider.provision(&recipe(2)).await.unwrap();
    let refused = async || {
        let stale = |error: Error| matches!(error, Error::StaleEpoch { epoch: 1, .. });
        assert!(stale(provider.provision(&recipe(1)).await.err().unwrap()));
        assert!(stale(provider.find("sesn_a", 1).await.err().unwrap()));
    };
    refused().await;
    // Also when there is nothing to find any more: an older owner starts nothing.
    provider.release("sesn_a").await.unwrap();
    refused().await;
    let next = provider.provision(&recipe(3)).await.unwrap();
    assert_ne!(next.instance(), first.instance());
    let found = provider.find("sesn_a", 4).await.unwrap().unwrap();
    assert_eq!(found.instance(), next.instance());
    let old = next
        .execute(&Call {
            epoch: 3,
            ..call("old", SAY)
        })
        .await;
    assert!(
        matches!(old, Err(Error::StaleEpoch { epoch: 3, seen: 4 })),
        "{old:?}"
    );
    // A session that is gone leaves nothing behind, its epochs neither.
    provider.destroy("sesn_a").await.unwrap();
    provider.provision(&recipe(1)).await.unwrap();
}

/// runtime AR-4 (as all of this suite); security I4
async fn i4_a_call_id_runs_once(Subject { provider, .. }: Subject) {
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    let first = call("call", COUNT);
    let (a, b) = tokio::join!(sandbox.execute(&first), sandbox.execute(&first));
    assert_eq!(
        (a.unwrap(), b.unwrap()),
        (Output::text("1"), Output::text("1"))
    );
    let again = provider.find("sesn_a", 1).await.unwrap().unwrap();
    assert_eq!(
        again.execute(&Call { epoch: 2, ..first }).await.unwrap(),
        Output::text("1")
    );
    assert_eq!(
        again
            .execute(&Call {
                epoch: 2,
                ..call("other", COUNT)
            })
            .await
            .unwrap(),
        Output::text("2")
    );
}

/// Returns once the sandbox has a call that hangs: it takes what it is told in its turn.
async fn until_begun(
    sandbox: &Arc<dyn Sandbox>,
    hanging: impl Future<Output = Result<Output, Error>>,
) {
    tokio::select! {
        biased;
        ended = hanging => panic!("it hangs: {ended:?}"),
        told = sandbox.forget(&[], 1) => told.unwrap(),
    }
}

async fn i4_a_call_outlives_whoever_asked(Subject { provider, .. }: Subject) {
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    let hanging = call("hanging", HANG);
    until_begun(&sandbox, sandbox.execute(&hanging)).await;
    // Still running: somebody else attaches to it, and sees it end.
    let (attached, killed) = tokio::join!(sandbox.execute(&hanging), sandbox.kill("hanging", 1));
    killed.unwrap();
    assert_eq!(
        attached.unwrap(),
        Output::error("tool 'bash' was interrupted")
    );
}

async fn i4_a_forgotten_call_never_runs_again(Subject { provider, .. }: Subject) {
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    sandbox.execute(&call("call", COUNT)).await.unwrap();
    sandbox
        .forget(&["call".to_owned(), "unknown".to_owned()], 1)
        .await
        .unwrap();
    let error = sandbox.execute(&call("call", COUNT)).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(
        sandbox.execute(&call("next", COUNT)).await.unwrap(),
        Output::text("2")
    );
}

async fn lease_1_an_older_epoch_is_refused(Subject { provider, .. }: Subject) {
    #[track_caller]
    fn check(error: &Error) {
        assert!(
            matches!(error, Error::StaleEpoch { epoch: 4, seen: 5 }),
            "{error:?}"
        );
        assert_eq!(error.advice(), Advice::Stop);
    }
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    sandbox
        .execute(&Call {
            epoch: 5,
            ..call("new", SAY)
        })
        .await
        .unwrap();
    check(
        &sandbox
            .execute(&Call {
                epoch: 4,
                ..call("old", COUNT)
            })
            .await
            .unwrap_err(),
    );
    check(&sandbox.kill("new", 4).await.unwrap_err());
    check(&sandbox.forget(&["new".to_owned()], 4).await.unwrap_err());
    let count = Call {
        epoch: 5,
        ..call("count", COUNT)
    };
    assert_eq!(
        sandbox.execute(&count).await.unwrap(),
        Output::text("1"),
        "the refused one did not run"
    );
}

async fn tool_1_a_kill_ends_the_call_and_the_next_one_works(Subject { provider, .. }: Subject) {
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    let hanging = call("hanging", HANG);
    let mut running = std::pin::pin!(sandbox.execute(&hanging));
    // A kill that comes before the start does nothing, so it is asked for until it has worked.
    let output = loop {
        tokio::select! {
            output = &mut running => break output,
            killed = sandbox.kill("hanging", 1) => killed.unwrap(),
        }
    };
    assert_eq!(
        output.unwrap(),
        Output::error("tool 'bash' was interrupted")
    );
    assert_eq!(
        sandbox.execute(&call("next", SAY)).await.unwrap(),
        Output::text("word")
    );
    sandbox.kill("unknown", 1).await.unwrap();
    sandbox.kill("next", 1).await.unwrap();
}

async fn tool_3_a_lost_sandbox_is_an_unknown_outcome_and_the_next_call_gets_another(
    subject: Subject,
) {
    let Subject { provider, lose } = subject;
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    sandbox.execute(&call("before", SAY)).await.unwrap();
    let hanging = call("hanging", HANG);
    let mut running = std::pin::pin!(sandbox.execute(&hanging));
    until_begun(&sandbox, &mut running).await;
    lose("sesn_a");
    let noticed = tokio::time::timeout(NOTICED, running).await;
    let error = noticed.expect("it is noticed in time").unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    assert!(error.outcome_unknown() && error.advice() == Advice::TellModel);
    assert!(matches!(
        sandbox.execute(&call("on-the-lost", SAY)).await,
        Err(Error::Lost { .. })
    ));
    assert!(provider.find("sesn_a", 1).await.unwrap().is_none());
    let next = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    assert_ne!(next.instance(), sandbox.instance());
    assert_eq!(
        next.execute(&call("next", SAY)).await.unwrap(),
        Output::text("word")
    );
}

async fn tl_20_a_call_ends_at_its_deadline(Subject { provider, .. }: Subject) {
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    let short = Call {
        deadline: Duration::from_millis(200),
        ..call("short", HANG)
    };
    assert_eq!(
        sandbox.execute(&short).await.unwrap(),
        Output::error("tool 'bash' timed out")
    );
}

async fn release_and_destroy_end_it_and_can_be_repeated(Subject { provider, .. }: Subject) {
    provider.release("sesn_a").await.unwrap();
    provider.destroy("sesn_a").await.unwrap();
    let recipe = Recipe::new("sesn_a", 1);
    let first = provider.provision(&recipe).await.unwrap();
    provider.release("sesn_a").await.unwrap();
    assert!(provider.find("sesn_a", 1).await.unwrap().is_none());
    assert!(matches!(
        first.execute(&call("call", SAY)).await,
        Err(Error::Lost { .. })
    ));
    let second = provider.provision(&recipe).await.unwrap();
    assert_ne!(first.instance(), second.instance());
    provider.destroy("sesn_a").await.unwrap();
    provider.destroy("sesn_a").await.unwrap();
    assert!(provider.find("sesn_a", 1).await.unwrap().is_none());
}

async fn a_tool_that_does_not_exist_is_an_error_result(Subject { provider, .. }: Subject) {
    let sandbox = provider.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
    let unknown = Call {
        name: "web_search".to_owned(),
        input: json!({}),
        ..call("call", "")
    };
    let output = sandbox.execute(&unknown).await.unwrap();
    assert!(output.is_error);
    assert_eq!(text(&output), "unknown tool 'web_search'");
}

async fn sbx_2_the_probe_says_that_it_is_usable(Subject { provider, .. }: Subject) {
    let probe = provider.probe().await;
    assert_eq!(probe.missing, []);
    assert!(probe.usable() && probe.provider == provider.name());
}

/// runtime VA-9: the variables of a recipe are in the environment of what runs inside, whoever has started its shell, and no list of
/// the host's processes shows them.
async fn variables_are_set(Subject { provider, .. }: Subject) {
    let recipe = |value: &str| Recipe {
        variables: Variables([("API_KEY".to_owned(), value.to_owned())].into()),
        ..Recipe::new("sesn_a", 1)
    };
    let say = async |id: &str, value: &str| {
        let sandbox = provider.provision(&recipe(value)).await.unwrap();
        let command = "echo $API_KEY $kept; env | grep -c ^API_KEY=; kept=here";
        text(&sandbox.execute(&call(id, command)).await.unwrap()).to_owned()
    };
    assert_eq!(say("a", "mhp_first").await, "mhp_first\n1");
    assert_eq!(say("b", "mhp_first").await, "mhp_first here\n1");
    assert_eq!(say("c", "mhp_second").await, "mhp_second here\n1");
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(
            !line.contains("mhp_first") && !line.contains("mhp_second"),
            "{line}"
        );
    }
    let other = provider.provision(&Recipe::new("sesn_b", 1)).await.unwrap();
    let output = other
        .execute(&call("d", "echo ${API_KEY-none}"))
        .await
        .unwrap();
    assert_eq!(text(&output), "none");
    provider.destroy("sesn_a").await.unwrap();
    provider.destroy("sesn_b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_9_variables_are_set_in_name_spaces() {
    variables_are_set(namespace()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_9_variables_are_set_in_sandboxes_that_have_waited() {
    variables_are_set(waiting()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_9_variables_are_set_in_containers() {
    variables_are_set(container()).await;
}
