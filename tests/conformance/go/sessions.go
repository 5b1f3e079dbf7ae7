package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/packages/ssestream"
	"github.com/anthropics/anthropic-sdk-go/v2/toolrunner"
)

type sent = anthropic.BetaManagedAgentsStreamSessionEventsUnion

func sessionID(session anthropic.BetaManagedAgentsSession) string { return session.ID }

func (r *run) newSession(more anthropic.BetaSessionNewParams) *anthropic.BetaManagedAgentsSession {
	agent := r.newAgent("Cell")
	environment := got(r.client.Beta.Environments.New(r.ctx, anthropic.BetaEnvironmentNewParams{Name: "of " + agent.ID}))
	more.Agent = anthropic.BetaSessionNewParamsAgentUnion{OfString: anthropic.String(agent.ID)}
	more.EnvironmentID = environment.ID
	return got(r.client.Beta.Sessions.New(r.ctx, more))
}

func (r *run) sessions() {
	sessions := r.client.Beta.Sessions
	var made *anthropic.BetaManagedAgentsSession
	// What a session has been told to be; its figures grow while one looks.
	given := func(session *anthropic.BetaManagedAgentsSession) string {
		return fmt.Sprint(session.ID, session.Title, session.Metadata, session.VaultIDs, session.Agent.RawJSON(), session.EnvironmentID)
	}
	cell("Beta.Sessions.New", func() {
		vault := got(r.client.Beta.Vaults.New(r.ctx, anthropic.BetaVaultNewParams{DisplayName: "keys"})).ID
		made = r.newSession(anthropic.BetaSessionNewParams{
			Title: anthropic.String("cell"), Metadata: map[string]string{"a": "b"}, VaultIDs: []string{vault},
		})
		same("title", made.Title, "cell")
		same("metadata", made.Metadata, map[string]string{"a": "b"})
		same("vaults", made.VaultIDs, []string{vault})
		same("agent", made.Agent.Name, "Cell")
		same("status", string(made.Status), "idle")
	})
	cell("Beta.Sessions.Get", func() {
		same("read back", given(got(sessions.Get(r.ctx, made.ID, anthropic.BetaSessionGetParams{}))), given(made))
	})
	cell("Beta.Sessions.Update", func() {
		params := anthropic.BetaSessionUpdateParams{Title: anthropic.String("other"), Metadata: map[string]string{"c": "d"}}
		changed := got(sessions.Update(r.ctx, made.ID, params))
		same("title", changed.Title, "other")
		same("metadata", changed.Metadata, map[string]string{"a": "b", "c": "d"})
		same("read back", given(got(sessions.Get(r.ctx, made.ID, anthropic.BetaSessionGetParams{}))), given(changed))
	})
	one := anthropic.Int(1)
	life{
		create: func() string {
			of := anthropic.BetaSessionListParams{AgentID: anthropic.String(made.Agent.ID), Statuses: []string{"idle"}}
			same("of one agent", ids(sessions.ListAutoPaging(r.ctx, of), sessionID), []string{made.ID})
			return r.newSession(anthropic.BetaSessionNewParams{}).ID
		},
		page: func() []string {
			return each(got(sessions.List(r.ctx, anthropic.BetaSessionListParams{Limit: one})).Data, sessionID)
		},
		all: func(archived bool) []string {
			params := anthropic.BetaSessionListParams{Limit: one, IncludeArchived: anthropic.Bool(archived)}
			return ids(sessions.ListAutoPaging(r.ctx, params), sessionID)
		},
		archive: func(id string) (shown, error) {
			return ask(sessions.Archive(r.ctx, id, anthropic.BetaSessionArchiveParams{}))
		},
		delete: func(id string) (shown, error) {
			return ask(sessions.Delete(r.ctx, id, anthropic.BetaSessionDeleteParams{}))
		},
		get: func(id string) (shown, error) { return ask(sessions.Get(r.ctx, id, anthropic.BetaSessionGetParams{})) },
	}.prove("Beta.Sessions", made.ID)
}

// message is one of the user, which makes the model answer as it says.
func message(text string) anthropic.BetaSessionEventSendParams {
	return anthropic.BetaSessionEventSendParams{Events: []anthropic.BetaManagedAgentsEventParamsUnion{{
		OfUserMessage: &anthropic.BetaManagedAgentsUserMessageEventParams{
			Content: []anthropic.BetaManagedAgentsUserMessageEventParamsContentUnion{{
				OfText: &anthropic.BetaManagedAgentsTextBlockParam{Text: text},
			}},
		},
	}}}
}

const says = `reply: [{"content": [{"type": "text", "text": "Two words."}]}]`

// until reads a stream to the first event of a type.
func until[T shown](stream *ssestream.Stream[T], kind string) []T {
	defer stream.Close()
	var seen []T
	for stream.Next() {
		seen = append(seen, stream.Current())
		if in(stream.Current(), "type") == kind {
			return seen
		}
	}
	panic(broken(fmt.Sprintf("the stream ended before %s: %v", kind, stream.Err())))
}

// of is what is of one type among events.
func of[T shown](events []T, kind string) []T {
	var found []T
	for _, event := range events {
		if in(event, "type") == kind {
			found = append(found, event)
		}
	}
	return found
}

// text is what an event's first block says.
func text(event shown) string {
	blocks, _ := in(event, "content").([]any)
	holds("content", len(blocks) > 0)
	block, _ := blocks[0].(map[string]any)
	return fmt.Sprint(block["text"])
}

func (r *run) events() {
	events, made := r.client.Beta.Sessions.Events, r.newSession(anthropic.BetaSessionNewParams{})
	var seen []sent
	var stored *anthropic.BetaManagedAgentsSendSessionEvents
	cell("Beta.Sessions.Events.StreamEvents", func() {
		stream := events.StreamEvents(r.ctx, made.ID, anthropic.BetaSessionEventStreamParams{
			EventDeltas: []anthropic.BetaManagedAgentsDeltaType{anthropic.BetaManagedAgentsDeltaTypeAgentMessage},
		})
		stored = got(events.Send(r.ctx, made.ID, message(says)))
		seen = until(stream, "session.status_idle")
		same("message", text(of(seen, "agent.message")[0]), "Two words.")
		holds("previews", len(of(seen, "event_start")) == 1 && len(of(seen, "event_delta")) > 0)
	})
	cell("helper: accumulate_managed_agents_event", func() {
		var previews anthropic.BetaManagedAgentsEventAccumulator
		deltas := ""
		for _, event := range seen {
			previews.Accumulate(event)
			if event.Type == "event_delta" {
				deltas = previews.AgentMessageText(event.EventID)
			}
		}
		message := of(seen, "agent.message")[0]
		same("previews", deltas, "Two words.")
		same("message", previews.AgentMessages[message.ID].RawJSON(), message.RawJSON())
	})
	cell("Beta.Sessions.Events.Send", func() {
		same("echo", []any{in(stored.Data[0], "type"), text(stored.Data[0])}, []any{"user.message", says})
	})
	cell("Beta.Sessions.Events.List", func() {
		two := anthropic.BetaSessionEventListParams{Limit: anthropic.Int(2)}
		same("first page", len(got(events.List(r.ctx, made.ID, two)).Data), 2)
		listed := all(events.ListAutoPaging(r.ctx, made.ID, two))
		alike("message", of(listed, "agent.message")[0], of(seen, "agent.message")[0])
		same("sent", id(of(listed, "user.message")[0]), id(stored.Data[0]))
		last := map[string]string{}
		for _, event := range seen {
			last[id(event)] = event.RawJSON()
		}
		for _, event := range listed {
			if streamed, ok := last[id(event)]; ok {
				same("list and stream", event.RawJSON(), streamed)
			}
		}
	})
}

func (r *run) threads() {
	threads, made := r.client.Beta.Sessions.Threads, r.newSession(anthropic.BetaSessionNewParams{})
	var primary anthropic.BetaManagedAgentsSessionThread
	cell("Beta.Sessions.Threads.List", func() {
		listed := all(threads.ListAutoPaging(r.ctx, made.ID, anthropic.BetaSessionThreadListParams{}))
		same("one thread", len(listed), 1)
		primary = listed[0]
		same("session", primary.SessionID, made.ID)
	})
	one := anthropic.BetaSessionThreadGetParams{SessionID: made.ID}
	cell("Beta.Sessions.Threads.Get", func() { alike("read back", got(threads.Get(r.ctx, primary.ID, one)), primary) })
	var seen []anthropic.BetaManagedAgentsStreamSessionThreadEventsUnion
	cell("Beta.Sessions.Threads.Events.StreamEvents", func() {
		params := anthropic.BetaSessionThreadEventStreamParams{SessionID: made.ID}
		stream := threads.Events.StreamEvents(r.ctx, primary.ID, params)
		got(r.client.Beta.Sessions.Events.Send(r.ctx, made.ID, message(says)))
		seen = until(stream, "session.thread_status_idle")
		same("message", text(of(seen, "agent.message")[0]), "Two words.")
	})
	cell("Beta.Sessions.Threads.Events.List", func() {
		params := anthropic.BetaSessionThreadEventListParams{SessionID: made.ID, Limit: anthropic.Int(2)}
		listed := all(threads.Events.ListAutoPaging(r.ctx, primary.ID, params))
		alike("message", of(listed, "agent.message")[0], of(seen, "agent.message")[0])
	})
	cell("Beta.Sessions.Threads.Archive", func() {
		// The one thread there is cannot be archived by itself; the session goes on.
		_, err := threads.Archive(r.ctx, primary.ID, anthropic.BetaSessionThreadArchiveParams{SessionID: made.ID})
		refused(400, err)
		same("status", string(got(threads.Get(r.ctx, primary.ID, one)).Status), "idle")
	})
}

func (r *run) resources() {
	resources, secret := r.client.Beta.Sessions.Resources, "cell-secret"
	made := r.newSession(anthropic.BetaSessionNewParams{Resources: []anthropic.BetaSessionNewParamsResourceUnion{{
		OfGitHubRepository: &anthropic.BetaManagedAgentsGitHubRepositoryResourceParams{
			URL: "https://github.com/acme/tools", AuthorizationToken: secret,
		},
	}}})
	var added, cloned shown
	list := func() []anthropic.BetaManagedAgentsSessionResourceUnion {
		return all(resources.ListAutoPaging(r.ctx, made.ID, anthropic.BetaSessionResourceListParams{Limit: anthropic.Int(1)}))
	}
	cell("Beta.Sessions.Resources.Add", func() {
		upload := anthropic.BetaFileUploadParams{File: anthropic.File(strings.NewReader("a"), "a.txt", "")}
		file := got(r.client.Beta.Files.Upload(r.ctx, upload)).ID
		added = got(ask(resources.Add(r.ctx, made.ID, anthropic.BetaSessionResourceAddParams{
			BetaManagedAgentsFileResourceParams: anthropic.BetaManagedAgentsFileResourceParams{
				FileID: file, MountPath: anthropic.String("/mnt/data/a.txt"),
			},
		})))
		same("type", in(added, "type"), any("file"))
		// The session has a copy of its own.
		copied := fmt.Sprint(in(added, "file_id"))
		same("file", got(r.client.Beta.Files.GetMetadata(r.ctx, copied, anthropic.BetaFileGetMetadataParams{})).Filename, "a.txt")
		holds("mount_path", strings.HasSuffix(fmt.Sprint(in(added, "mount_path")), "/a.txt"))
	})
	cell("Beta.Sessions.Resources.List", func() {
		same("two", len(list()), 2)
		cloned = of(list(), "github_repository")[0]
		same("url", in(cloned, "url"), any("https://github.com/acme/tools"))
		holds("no secret", !strings.Contains(cloned.RawJSON(), secret))
	})
	cell("Beta.Sessions.Resources.Get", func() {
		params := anthropic.BetaSessionResourceGetParams{SessionID: made.ID}
		alike("read back", got(resources.Get(r.ctx, id(added), params)), added)
	})
	cell("Beta.Sessions.Resources.Update", func() {
		changed := got(resources.Update(r.ctx, id(cloned), anthropic.BetaSessionResourceUpdateParams{
			SessionID: made.ID, AuthorizationToken: secret + "-2",
		}))
		same("the same", []any{id(changed), in(changed, "url")}, []any{id(cloned), in(cloned, "url")})
		holds("no secret", !strings.Contains(changed.RawJSON(), secret))
		params := anthropic.BetaSessionResourceGetParams{SessionID: made.ID}
		alike("read back", got(resources.Get(r.ctx, id(cloned), params)), changed)
	})
	cell("Beta.Sessions.Resources.Delete", func() {
		params := anthropic.BetaSessionResourceDeleteParams{SessionID: made.ID}
		same("id", got(resources.Delete(r.ctx, id(added), params)).ID, id(added))
		same("what is left", each(list(), func(left anthropic.BetaManagedAgentsSessionResourceUnion) string { return left.Type }),
			[]string{"github_repository"})
	})
}

// toolRunner is the helper that answers calls of the client's own tools.
func (r *run) toolRunner() {
	cell("Beta.Sessions.Events.NewToolRunner", func() {
		type input struct {
			Word string `json:"word"`
		}
		lookup := got(toolrunner.NewBetaToolFromJSONSchema("lookup", "Looks a word up.",
			func(_ context.Context, given input) (anthropic.BetaToolResultBlockParamContentUnion, error) {
				return anthropic.BetaToolResultBlockParamContentUnion{
					OfText: &anthropic.BetaTextBlockParam{Text: given.Word + " has five fingers"},
				}, nil
			}))
		events, made := r.client.Beta.Sessions.Events, r.newSession(anthropic.BetaSessionNewParams{})
		call := `{"content": [{"type": "tool_use", "id": "toolu_go", "name": "lookup", "input": {"word": "hand"}}]}`
		got(events.Send(r.ctx, made.ID, message(`reply: [`+call+`, {"content": [{"type": "text", "text": "Found."}]}]`)))
		idle := 100 * time.Millisecond
		runner := events.NewToolRunner(r.ctx, made.ID, anthropic.SessionToolRunnerOptions{
			Tools: []anthropic.BetaTool{lookup}, MaxIdle: &idle,
		})
		calls := 0
		for runner.Next() {
			calls++
		}
		same("calls", calls, 1)
		listed := all(events.ListAutoPaging(r.ctx, made.ID, anthropic.BetaSessionEventListParams{}))
		same("answer", text(of(listed, "user.custom_tool_result")[0]), "hand has five fingers")
		same("end", text(of(listed, "agent.message")[0]), "Found.")
	})
}
