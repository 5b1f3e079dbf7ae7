use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn model(id: &str, display_name: &str) -> Model {
    Model {
        display_name: display_name.to_owned(),
        ..Model::named(id)
    }
}

#[test]
fn flags_have_the_documented_defaults() {
    let args = Line::parse_from(["quickstart"]).args;
    assert_eq!(args.model, "claude-opus-4-8");
    assert!(!args.keep && !args.json);
    let args = Line::parse_from(["quickstart", "--json", "--keep", "--model", "scripted"]).args;
    assert_eq!(
        (args.model.as_str(), args.keep, args.json),
        ("scripted", true, true)
    );
}

#[test]
fn a_scripted_model_is_told_from_a_real_one() {
    let models = [
        model("claude-opus-4-8", "Claude Opus 4.8"),
        model("scripted", "Scripted (no network)"),
        model("claude-played", "Claude (scripted)"),
    ];
    for (id, expected) in [
        ("claude-opus-4-8", false),
        ("scripted", true),
        ("claude-played", true),
        ("claude-not-listed", false),
        ("other-not-listed", false),
    ] {
        assert_eq!(is_scripted(&models, id), expected, "{id}");
    }
    assert!(is_scripted(&models[1..], "claude-not-listed"));
    assert!(!is_scripted(&[], "claude-opus-4-8"));
}

#[test]
fn what_comes_next_starts_a_server_only_where_none_is_left() {
    let running = what_next("http://127.0.0.1:4000", false, "d");
    assert!(
        running.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:4000"),
        "{running}"
    );
    assert!(!running.contains(" serve "), "{running}");
    let stopped = what_next("http://127.0.0.1:4000", true, "d");
    assert!(stopped.contains(" serve --data-dir d"), "{stopped}");
    assert!(stopped.contains(local::DEFAULT_URL), "{stopped}");
}
