//! Lists of tools.

use manyhands_mcp::{Failure, Settings, Tool};
use manyhands_testkit::mcp::{Asked, Reply, polite};
use serde_json::{Map, Value, json};

use crate::world::{Vault, World};

/// A server whose list has these pages.
fn pages(mut page: impl FnMut(usize) -> Value) -> impl FnMut(&Asked) -> Reply {
    move |asked| match asked.what() {
        "tools/list" => {
            let cursor = asked.body["params"]["cursor"].as_str();
            Reply::result(
                asked,
                &page(cursor.map_or(0, |cursor| cursor.parse().expect("ours"))),
            )
        }
        _ => polite(asked, &json!([]), |_, _| Value::Null),
    }
}

fn tool(name: String) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

async fn tools(world: &World) -> Result<Vec<Tool>, Failure> {
    world.connect().await.expect("a connection").tools().await
}

/// runtime MC-2
#[tokio::test]
async fn mc_2_all_pages_are_read_in_the_servers_order() {
    let world = World::new(pages(|page| {
        let tools = [
            tool(format!("b{page}")),
            tool(format!("a{page}")),
            json!({"name": 7}),
            tool("same".to_owned()),
        ];
        match page {
            2 => json!({"tools": tools, "nextCursor": null}),
            _ => json!({"tools": tools, "nextCursor": (page + 1).to_string()}),
        }
    }))
    .await;
    let tools = tools(&world).await.expect("tools");
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["b0", "a0", "same", "b1", "a1", "b2", "a2"]);
    let schema = Map::from_iter([("type".to_owned(), json!("object"))]);
    assert_eq!(tools[0].input_schema, schema);
}

/// security INP-1
#[tokio::test]
async fn inp_1_a_list_is_bounded() {
    let many = |count: usize| -> Vec<Value> {
        (0..count).map(|number| tool(number.to_string())).collect()
    };
    type Pages = Box<dyn FnMut(usize) -> Value + Send>;
    let cases: [(&str, Pages); 4] = [
        (
            "more than 50 pages",
            Box::new(|page| json!({"tools": [], "nextCursor": (page + 1).to_string()})),
        ),
        (
            "in circles",
            Box::new(|_| json!({"tools": [], "nextCursor": "1"})),
        ),
        (
            "more than 1000 tools",
            Box::new(move |_| json!({"tools": many(1_001)})),
        ),
        ("is none", Box::new(|_| json!({"tools": "none"}))),
    ];
    for (problem, page) in cases {
        let world = World::new(pages(page)).await;
        let failure = tools(&world).await.expect_err(problem);
        assert!(matches!(failure, Failure::Connection { .. }), "{failure:?}");
        assert!(failure.to_string().contains(problem), "{failure}");
    }
    let world = World::new(pages(move |_| json!({"tools": many(1_000)}))).await;
    assert_eq!(tools(&world).await.expect("tools").len(), 1_000);

    let settings = Settings {
        page_bytes: 10_000,
        ..Settings::default()
    };
    let world = World::with(
        settings,
        Vault::default(),
        pages(move |_| json!({"tools": many(1_000)})),
    )
    .await;
    assert_eq!(tools(&world).await, Err(Failure::TooLarge { most: 10_000 }));
}

#[tokio::test]
async fn mc_7_a_list_is_asked_for_again_where_that_may_help() {
    // The answers before the good one; how often it is asked for, and how often hands are shaken.
    let down = |_: &Asked| Reply::status(503);
    let cut = |_: &Asked| Reply::raw("");
    let gone = |_: &Asked| Reply::status(404);
    let unknown = |_: &Asked| Reply::new(400, &[], b"no valid session");
    type Answer = fn(&Asked) -> Reply;
    let cases: [(Vec<Answer>, bool, usize, usize); 6] = [
        (vec![down, cut], true, 3, 1),
        (vec![down, down, down], false, 3, 1),
        (vec![gone], true, 2, 2),
        (vec![unknown], true, 2, 2),
        (
            vec![|asked| Reply::error(asked, -32603, "broken")],
            false,
            1,
            1,
        ),
        (vec![|_| Reply::status(401)], false, 1, 1),
    ];
    for (before, works, lists, greetings) in cases {
        let mut before = before.into_iter();
        let world = World::new(move |asked| match asked.what() {
            "tools/list" => match before.next() {
                Some(answer) => answer(asked),
                None => Reply::result(asked, &json!({"tools": [tool("tool".to_owned())]})),
            },
            "initialize" => {
                polite(asked, &json!([]), |_, _| Value::Null).with("mcp-session-id", "s")
            }
            _ => polite(asked, &json!([]), |_, _| Value::Null),
        })
        .await;
        assert_eq!(tools(&world).await.is_ok(), works);
        assert_eq!(world.times("tools/list"), lists);
        assert_eq!(world.times("initialize"), greetings);
    }
}

#[tokio::test]
async fn a_server_without_tools_has_none() {
    let world = World::new(|asked| match asked.what() {
        "tools/list" => Reply::error(asked, -32601, "no such method"),
        _ => polite(asked, &json!([]), |_, _| Value::Null),
    })
    .await;
    assert_eq!(tools(&world).await, Ok(Vec::new()));
}
