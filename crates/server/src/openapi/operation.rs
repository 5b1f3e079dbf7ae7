//! What a route says of itself. Body and answer are read off its handler's signature, so that they cannot differ from
//! what the handler does; the query's parameters stand in the route's row.

use std::any::type_name;
use std::future::Future;

use axum::Json as Reply;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{self, MethodRouter};
use http::{HeaderMap, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::json::{Json, SecretJson};
use crate::api::query::{Ids, Query};
use crate::api::user_profiles::links::Origin;
use crate::api::{skills, user_profiles};
use crate::app::App;
use crate::openapi::parameter::Parameter;

/// Makes a type's schema, and puts those it refers to into the generator.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a request's body is.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// There is none, or what it holds does not matter.
    Nothing,
    /// A JSON object.
    Json(SchemaOf),
    /// A form with files.
    Form(SchemaOf),
}

/// What an answer with status 200 holds.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// The handler's signature does not say; its row has to.
    Unsaid,
    /// A JSON object.
    Json(SchemaOf),
    /// Server-sent events.
    Stream,
    /// Bytes, for example of a file.
    Bytes,
    /// Plain text.
    Text,
    /// There is none: the resource is not built.
    Never,
}

/// What a route says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    /// The handler's name, for example `create_agent`.
    pub(crate) id: &'static str,
    /// What its query may hold.
    pub(crate) query: &'static [Parameter],
    pub(crate) takes: Body,
    pub(crate) gives: Content,
}

/// A handler, and what it says of itself.
pub(crate) struct Handled {
    pub(crate) router: MethodRouter<App>,
    pub(crate) operation: Operation,
}

impl Handled {
    fn new<H, A>(router: MethodRouter<App>, _: &H) -> Self
    where
        H: Described<A>,
    {
        let id = type_name::<H>().rsplit("::").next().unwrap_or_default();
        let operation = Operation {
            id,
            query: &[],
            takes: H::takes(),
            gives: H::gives(),
        };
        Self { router, operation }
    }

    /// With these parameters in its query.
    pub(crate) fn query(mut self, parameters: &'static [Parameter]) -> Self {
        self.operation.query = parameters;
        self
    }

    /// With a form as its body.
    pub(crate) fn takes_form<T: JsonSchema>(mut self) -> Self {
        self.operation.takes = Body::Form(schema_of::<T>);
        self
    }

    /// With a JSON answer that it has written itself.
    pub(crate) fn gives<T: JsonSchema>(mut self) -> Self {
        self.operation.gives = Content::Json(schema_of::<T>);
        self
    }

    /// With an answer that is no JSON.
    pub(crate) fn gives_other(mut self, content: Content) -> Self {
        self.operation.gives = content;
        self
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! methods {
    ($($method:ident)*) => {$(
        /// A route of this method.
        pub(crate) fn $method<H, T, A>(handler: H) -> Handled
        where
            H: Handler<T, App> + Described<A>,
            T: 'static,
        {
            Handled::new(routing::$method(handler.clone()), &handler)
        }
    )*};
}

methods! { get post delete }

/// What an argument of a handler says.
pub(crate) trait Argument {
    /// What it makes of the body.
    const TAKES: Body = Body::Nothing;
}

impl Argument for State<App> {}
impl Argument for Principal {}
impl Argument for Ids {}
impl Argument for Query {}
impl Argument for HeaderMap {}
impl Argument for skills::Shape {}
impl Argument for Request {}
impl Argument for user_profiles::Shape {}
impl Argument for Origin {}

impl<T: JsonSchema> Argument for Json<T> {
    const TAKES: Body = Body::Json(schema_of::<T>);
}

impl<T: JsonSchema> Argument for SecretJson<T> {
    const TAKES: Body = Body::Json(schema_of::<T>);
}

/// What a handler's answer says.
pub(crate) trait Answer {
    /// What it holds.
    const GIVES: Content;
}

impl<T: JsonSchema> Answer for Result<Reply<T>, ApiError> {
    const GIVES: Content = Content::Json(schema_of::<T>);
}

impl<T: JsonSchema> Answer for Reply<T> {
    const GIVES: Content = Content::Json(schema_of::<T>);
}

impl<T: JsonSchema> Answer for (StatusCode, Reply<T>) {
    const GIVES: Content = Content::Json(schema_of::<T>);
}

impl Answer for Result<Response, ApiError> {
    const GIVES: Content = Content::Unsaid;
}

impl Answer for Response {
    const GIVES: Content = Content::Unsaid;
}

impl Answer for ApiError {
    const GIVES: Content = Content::Never;
}

/// A handler whose arguments and answer say what they are. `A` only tells the arities apart.
pub(crate) trait Described<A> {
    fn takes() -> Body;
    fn gives() -> Content;
}

macro_rules! described {
    ($($argument:ident)*) => {
        impl<F, R, $($argument,)*> Described<($($argument,)*)> for F
        where
            F: Fn($($argument,)*) -> R,
            R: Future<Output: Answer>,
            $($argument: Argument,)*
        {
            fn takes() -> Body {
                let takes: &[Body] = &[$($argument::TAKES,)*];
                let body = takes.iter().find(|body| !matches!(body, Body::Nothing));
                body.copied().unwrap_or(Body::Nothing)
            }

            fn gives() -> Content {
                R::Output::GIVES
            }
        }
    };
}

described! {}
described! { A }
described! { A B }
described! { A B C }
described! { A B C D }
described! { A B C D E }
