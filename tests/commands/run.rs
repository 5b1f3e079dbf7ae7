//! `manyhands run`: the exit statuses, the person at the terminal, the broken connection.

use std::process::Output;

use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{ModelServer, Reply, Usage};
use serde_json::{Value, json};

use crate::terminal::Watched;
use crate::{PROGRAM, directory, run, succeeded, text};

/// A server whose model follows a script.
struct Bed {
    server: Daemon,
    model: ModelServer,
}

impl Bed {
    async fn with(replies: impl IntoIterator<Item = Reply>) -> Self {
        let model = ModelServer::with(replies).await;
        let builder = Daemon::builder().binary(PROGRAM).model(&model.url());
        Self {
            server: builder.start().await,
            model,
        }
    }

    /// The command's words, with those that name the server.
    fn words<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let server = ["--url", self.server.url(), "--data-dir"];
        let mut words = vec!["run"];
        words.extend(args);
        words.extend(server);
        words.push(directory(self.server.data_dir()));
        words
    }

    async fn run(&self, args: &[&str]) -> Output {
        run(&self.words(args), &[]).await
    }

    /// An agent with these tools.
    async fn agent(&self, tools: Value) -> String {
        self.agent_of("claude-opus-4-8", tools).await
    }

    async fn agent_of(&self, model: &str, tools: Value) -> String {
        let body = json!({"name": "a", "model": model, "tools": tools});
        let agent = self.server.client().post("/v1/agents", &body).await.ok();
        id(&agent)
    }

    async fn session(&self, id: &str) -> Value {
        let path = format!("/v1/sessions/{id}");
        self.server.client().get(&path).await.ok()
    }

    /// The only session there is.
    async fn only_session(&self) -> String {
        let page = self.server.client().get("/v1/sessions").await.ok();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{page}");
        id(&page["data"][0])
    }
}

fn id(resource: &Value) -> String {
    resource["id"].as_str().expect("an id").to_owned()
}

fn asking_bash() -> Value {
    json!([{
        "type": "agent_toolset_20260401",
        "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}],
    }])
}

fn lookup() -> Value {
    json!([{
        "type": "custom", "name": "lookup", "description": "Looks a word up.",
        "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}},
    }])
}

/// What follows a flag in the hint of a run that waits for answers.
fn flag(said: &str, name: &str) -> String {
    let (_, rest) = said
        .split_once(name)
        .unwrap_or_else(|| panic!("no {name} in:\n{said}"));
    let word = rest.split_whitespace().next().expect("a word");
    word.trim_end_matches("=TEXT").to_owned()
}

fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test]
async fn a_task_is_run_and_told_and_the_next_one_uses_the_same_agent() {
    let bed = Bed::with([
        Reply::text("It is done.").split_into(3),
        Reply::text("Again."),
        Reply::text("Elsewhere."),
    ])
    .await;
    let told = succeeded(&bed.run(&["Do it."]).await);
    for part in [
        "you        Do it.",
        "agent      It is done.",
        "idle       done:",
        "sesn_",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains('\x1b'), "no colours on a pipe: {told}");
    succeeded(&bed.run(&["Do it again.", "--system", "Be brief."]).await);
    assert!(bed.model.request(2).await.system().contains("Be brief."));
    for path in ["/v1/agents", "/v1/environments"] {
        let page = bed.server.client().get(path).await.ok();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{page}");
    }
    let agent = bed.agent(json!([])).await;
    let told = succeeded(&bed.run(&["Now you.", "--agent", &agent]).await);
    assert!(told.contains("Elsewhere."), "{told}");
}

#[tokio::test]
async fn json_is_the_session_and_then_its_events_one_a_line() {
    let bed = Bed::with([Reply::text("It is done.").split_into(3)]).await;
    let told = succeeded(&bed.run(&["Do it.", "--json"]).await);
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "session",
            "user.message",
            "session.thread_status_running",
            "session.status_running",
            "user.message",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
    );
    assert_eq!(lines[0]["title"], "Do it.");
}

#[tokio::test]
async fn a_task_can_come_from_standard_input() {
    let bed = Bed::with([Reply::text("Read.")]).await;
    let words = bed.words(&["-"]).join(" ");
    let shell = format!("echo 'From a pipe.' | '{PROGRAM}' {words}");
    let output = tokio::process::Command::new("/bin/sh")
        .args(["-c", &shell])
        .env_remove("MANYHANDS_API_KEY")
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await;
    let told = succeeded(&output.expect("it ends").expect("it starts"));
    assert!(told.contains("Read."), "{told}");
    assert_eq!(bed.model.request(1).await.last_user_text(), "From a pipe.");
}

/// runtime SQ-7, TC-7
#[tokio::test]
async fn sq_7_without_a_terminal_a_call_that_asks_ends_the_run_and_flags_answer_it() {
    let call = |id: &str| Reply::tool_use(id, "bash", json!({"command": "echo did > it"}));
    let bed = Bed::with([
        call("toolu_1"),
        call("toolu_2").then_tool_use("toolu_3", "bash", json!({"command": "cat it"})),
        Reply::text("Finished."),
    ])
    .await;
    let agent = bed.agent(asking_bash()).await;
    let asked = bed.run(&["Do it.", "--agent", &agent]).await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    assert!(
        said.contains("waits for an answer to a tool call"),
        "{said}"
    );
    assert!(said.contains("for bash: echo did > it"), "{said}");

    let session = flag(&said, "--session ");
    let asked = bed
        .run(&[
            "--session",
            &session,
            "--deny",
            &flag(&said, "--deny "),
            "--reason",
            "Not yet.",
        ])
        .await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    let results = bed.model.request(2).await.tool_results();
    assert!(
        results[0].is_error && results[0].text.contains("Not yet."),
        "{results:?}"
    );
    assert!(said.contains("waits for 2 answers to tool calls"), "{said}");

    // Without answers the same is said again, and nothing is sent.
    let again = bed.run(&["--session", &session, "And?"]).await;
    assert_eq!(
        (status(&again), text(&again.stderr)),
        (Some(3), said.clone())
    );

    let first = flag(&said, "--allow ");
    let partly = bed.run(&["--session", &session, "--allow", &first]).await;
    let said = text(&partly.stderr);
    assert_eq!(status(&partly), Some(3), "{said}");
    assert!(
        said.contains("for bash: cat it") && !said.contains(&first),
        "{said}"
    );

    let told = succeeded(&bed.run(&["--session", &session, "--yes"]).await);
    assert!(told.contains("Finished."), "{told}");
    let results = bed.model.request(3).await.tool_results();
    assert_eq!(results[1].text.trim(), "did", "{results:?}");
}

/// runtime SQ-10
#[tokio::test]
async fn sq_10_the_result_of_a_custom_tool_is_given_by_a_flag() {
    let bed = Bed::with([
        Reply::tool_use("toolu_1", "lookup", json!({"word": "hand"})),
        Reply::text("Found."),
    ])
    .await;
    let agent = bed.agent(lookup()).await;
    let asked = bed.run(&["Look it up.", "--agent", &agent, "--yes"]).await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    let answer = format!("{}=five fingers", flag(&said, "--result "));
    let told = succeeded(
        &bed.run(&["--session", &flag(&said, "--session "), "--result", &answer])
            .await,
    );
    assert!(
        told.contains("│ five fingers") && told.contains("Found."),
        "{told}"
    );
    assert_eq!(
        bed.model.request(2).await.tool_results()[0].text,
        "five fingers"
    );
}

/// runtime TC-7
#[tokio::test]
async fn tc_7_a_person_at_a_terminal_is_asked() {
    let call = |id: &str, command: &str| Reply::tool_use(id, "bash", json!({"command": command}));
    let bed = Bed::with([
        call("toolu_1", "echo one"),
        call("toolu_2", "echo two"),
        call("toolu_3", "echo three"),
        Reply::text("Finished."),
    ])
    .await;
    let agent = bed.agent(asking_bash()).await;
    let mut person = Watched::on_terminal(&bed.words(&["Do it.", "--agent", &agent]));
    person.prints("allow bash: echo one?").await;
    person.types("y");
    person.prints("allow bash: echo two?").await;
    person.types("n");
    person.prints("allow bash: echo three?").await;
    person.types("there is no three");
    let (status, said) = person.ends().await;
    assert!(status.success(), "{said}");
    assert!(
        said.contains("\x1b[1;36magent\x1b[0m"),
        "colours on a terminal: {said}"
    );
    let first = bed.model.request(2).await.tool_results();
    assert_eq!((first[0].text.trim(), first[0].is_error), ("one", false));
    assert!(bed.model.request(3).await.tool_results()[0].is_error);
    let third = bed.model.request(4).await.tool_results();
    assert!(third[0].text.contains("there is no three"), "{third:?}");
}

/// runtime IN-2, IN-3
#[tokio::test]
async fn in_2_ctrl_c_interrupts_the_session_and_the_run_waits_for_its_rest() {
    let gate = Gate::new();
    let bed = Bed::with([Reply::text("Never said.").hold_first_token(&gate)]).await;
    let run = Watched::on_pipes(&bed.words(&["Do it."]));
    gate.reached().await;
    run.ctrl_c();
    let (status, said) = run.ends().await;
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(
        said.contains("idle") && said.contains("was interrupted"),
        "{said}"
    );
    assert!(!said.contains("Never said."), "{said}");
    let session = bed.only_session().await;
    assert_eq!(bed.session(&session).await["status"], "idle");
}

/// A second Ctrl-C leaves the session to itself.
#[tokio::test]
async fn a_second_ctrl_c_leaves_at_once() {
    let bed = Bed::with([Reply::tool_use(
        "toolu_1",
        "bash",
        json!({"command": "trap '' INT TERM; mkfifo gate; cat gate"}),
    )])
    .await;
    let mut run = Watched::on_pipes(&bed.words(&["Do it."]));
    run.prints("mkfifo gate").await;
    run.ctrl_c();
    run.prints("Ctrl-C again leaves it to itself").await;
    run.ctrl_c();
    let (status, said) = run.ends().await;
    assert_eq!(status.code(), Some(130), "{said}");
}

/// runtime ST-2: the run goes on where the stream broke, with the same server at the same address.
#[tokio::test]
async fn st_2_a_run_outlives_a_restart_of_the_server() {
    let gate = Gate::new();
    let model = ModelServer::with([
        Reply::text("Never said.").hold_first_token(&gate),
        Reply::text("Said after the restart."),
    ])
    .await;
    let place = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = place.local_addr().expect("its address").to_string();
    drop(place);
    let builder = Daemon::builder().binary(PROGRAM).model(&model.url());
    let mut bed = Bed {
        server: builder.listen(&address).start().await,
        model,
    };
    let run = Watched::on_pipes(&bed.words(&["Do it."]));
    gate.reached().await;
    bed.server.kill9().await;
    bed.server.restart(&[]).await;
    let (status, said) = run.ends().await;
    assert!(status.success(), "{said}");
    assert_eq!(said.matches("Said after the restart.").count(), 1, "{said}");
    assert!(!said.contains("Never said."), "{said}");
}

/// runtime SE-5: a message to a session at work joins its turn or opens the next, and the run ends after that one.
#[tokio::test]
async fn se_5_a_task_for_a_session_at_work_is_waited_for() {
    let gate = Gate::new();
    let bed = Bed::with([
        Reply::text("The first.").hold_first_token(&gate),
        Reply::text("The second."),
    ])
    .await;
    let first = Watched::on_pipes(&bed.words(&["Do it."]));
    gate.reached().await;
    let session = bed.only_session().await;
    let mut second = Watched::on_pipes(&bed.words(&["--session", &session, "And this."]));
    second.prints("And this.").await;
    let mut stream = bed
        .server
        .client()
        .stream(&format!("/v1/sessions/{session}/events/stream"))
        .await;
    let listed = async || {
        let path = format!("/v1/sessions/{session}/events?types[]=user.message");
        let page = bed.server.client().get(&path).await.ok();
        page["data"].as_array().map_or(0, Vec::len)
    };
    if listed().await < 2 {
        stream.until("user.message").await;
    }
    gate.open();
    let (status, said) = second.ends().await;
    assert!(status.success() && said.contains("The second."), "{said}");
    let (status, said) = first.ends().await;
    assert!(status.success() && said.contains("The first."), "{said}");
}

/// runtime SQ-13, SQ-15
#[tokio::test]
async fn sq_13_sq_15_a_turn_that_fails_and_a_refusal_have_their_own_exit_statuses() {
    let bed = Bed::with([
        Reply::bad_request("no such thing"),
        Reply::text("No.").refusal("cyber", "not that"),
    ])
    .await;
    let failed = bed.run(&["Do it."]).await;
    let said = text(&failed.stderr);
    assert_eq!(status(&failed), Some(5), "{said}");
    let session = flag(&said, "--session ");
    let refused = bed.run(&["--session", &session, "Do that."]).await;
    assert_eq!(status(&refused), Some(6), "{}", text(&refused.stderr));
}

/// runtime BU-1, SQ-16
#[tokio::test]
async fn sq_16_a_budget_that_is_reached_has_an_exit_status_of_its_own() {
    // 400 tokens of output at $25 a million are exactly one cent.
    let dear = Usage {
        output_tokens: 400,
        ..Usage::default()
    };
    let model = ModelServer::with([Reply::text("Dear.").usage(dear)]).await;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("manyhands.toml");
    let toml = format!(
        "[[models]]\nid = 'priced'\nprovider = 'anthropic'\nbase_url = '{}'\nkey = {{ env = 'MODEL_KEY' }}\n\
         prices = {{ input = 5, output = 25, cache_read = 0.5, cache_write = 6.25 }}\n",
        model.url()
    );
    std::fs::write(&file, toml).expect("written");
    let builder = Daemon::builder().binary(PROGRAM);
    let builder = builder
        .env("MANYHANDS_CONFIG", &file)
        .env("MODEL_KEY", "stub");
    let server = builder.start().await;
    let bed = Bed { server, model };
    let agent = bed.agent_of("priced", json!([])).await;
    let reached = bed
        .run(&["Do it.", "--agent", &agent, "--budget", "0.01"])
        .await;
    let said = text(&reached.stderr);
    assert_eq!(status(&reached), Some(4), "{said}");
    let told = text(&reached.stdout);
    assert!(told.contains("Dear.") && told.contains("$0.01"), "{told}");

    let why = |json: bool| {
        let session = flag(&said, "session ");
        let server = [bed.server.url(), directory(bed.server.data_dir())];
        let mut words = vec!["why".to_owned(), session];
        words.extend(["--url".to_owned(), server[0].to_owned()]);
        words.extend(["--data-dir".to_owned(), server[1].to_owned()]);
        words.extend(json.then(|| "--json".to_owned()));
        words
    };
    let told = run_words(&why(false)).await;
    assert!(
        told.lines().count() == 1 && told.contains("budget"),
        "{told}"
    );
    let body: Value = serde_json::from_str(&run_words(&why(true)).await).expect("JSON");
    assert_eq!(
        (body["waiting_for"].as_str(), body["sentence"].as_str()),
        (Some("client"), Some(told.trim())),
        "{body}"
    );
}

async fn run_words(words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    succeeded(&run(&words, &[]).await)
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let bed = Bed::with([]).await;
    let place = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("http://{}", place.local_addr().expect("its address"));
    drop(place);
    let data = directory(bed.server.data_dir());
    let absent = bed.run(&["x", "--model", "nobody"]).await;
    assert_eq!(status(&absent), Some(1));
    assert!(
        text(&absent.stderr).contains("known models"),
        "{}",
        text(&absent.stderr)
    );
    let output = run(&["run", "x", "--url", &nobody, "--data-dir", data], &[]).await;
    assert!(
        text(&output.stderr).contains("manyhands serve"),
        "{}",
        text(&output.stderr)
    );
    let wrong = [("MANYHANDS_API_KEY", "wrong")];
    let output = run(&["run", "x", "--url", bed.server.url()], &wrong).await;
    assert!(
        text(&output.stderr).contains("401"),
        "{}",
        text(&output.stderr)
    );
    let agent = bed.agent(json!([])).await;
    let client = bed.server.client();
    let environment = client
        .post("/v1/environments", &json!({"name": "e"}))
        .await
        .ok();
    let body = json!({"agent": agent, "environment_id": environment["id"]});
    let session = id(&client.post("/v1/sessions", &body).await.ok());
    let idle = bed.run(&["--session", &session]).await;
    assert!(
        text(&idle.stderr).contains("nothing to do"),
        "{}",
        text(&idle.stderr)
    );
    client
        .post_empty(&format!("/v1/sessions/{session}/archive"))
        .await
        .ok();
    let ended = bed.run(&["--session", &session]).await;
    assert!(
        text(&ended.stderr).contains("has ended"),
        "{}",
        text(&ended.stderr)
    );
    let usage = bed.run(&[]).await;
    assert_eq!(status(&usage), Some(2));
    let fresh = bed.run(&["--session", "sesn_01none"]).await;
    assert!(
        text(&fresh.stderr).contains("404"),
        "{}",
        text(&fresh.stderr)
    );
}
