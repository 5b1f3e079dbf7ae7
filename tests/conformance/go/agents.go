package main

import (
	"io"
	"net/http"
	"strings"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"
)

func agentID(agent anthropic.BetaManagedAgentsAgent) string      { return agent.ID }
func environmentID(environment anthropic.BetaEnvironment) string { return environment.ID }

func (r *run) newAgent(name string) *anthropic.BetaManagedAgentsAgent {
	return got(r.client.Beta.Agents.New(r.ctx, anthropic.BetaAgentNewParams{
		Name:        name,
		Model:       anthropic.BetaManagedAgentsModelConfigParams{ID: anthropic.BetaManagedAgentsModel(r.model)},
		Description: anthropic.String("of a table"),
		System:      anthropic.String("Be brief."),
		Metadata:    map[string]string{"a": "b"},
		Tools: []anthropic.BetaAgentNewParamsToolUnion{
			{OfCustom: &anthropic.BetaManagedAgentsCustomToolParams{
				Name: "lookup", Description: "Does lookup.",
				InputSchema: anthropic.BetaManagedAgentsCustomToolInputSchemaParam{
					Properties: map[string]any{"word": map[string]any{"type": "string"}},
				},
			}},
		},
	}))
}

func (r *run) agents() {
	agents := r.client.Beta.Agents
	var made, changed *anthropic.BetaManagedAgentsAgent
	cell("Beta.Agents.New", func() {
		made = r.newAgent("Cell")
		same("name", made.Name, "Cell")
		same("texts", []string{made.Description, made.System}, []string{"of a table", "Be brief."})
		same("metadata", made.Metadata, map[string]string{"a": "b"})
		same("model", string(made.Model.ID), r.model)
		same("version", made.Version, 1)
		same("tool", made.Tools[0].Type, "custom")
	})
	cell("Beta.Agents.Get", func() {
		alike("read back", got(agents.Get(r.ctx, made.ID, anthropic.BetaAgentGetParams{})), made)
		_, err := agents.Get(r.ctx, "agent_01none", anthropic.BetaAgentGetParams{})
		refused(404, err)
	})
	cell("Beta.Agents.Update", func() {
		changed = got(agents.Update(r.ctx, made.ID, anthropic.BetaAgentUpdateParams{
			Version: anthropic.Int(made.Version), Name: anthropic.String("Other"), Metadata: map[string]string{"c": "d"},
		}))
		same("name", changed.Name, "Other")
		same("metadata", changed.Metadata, map[string]string{"a": "b", "c": "d"})
		same("version", changed.Version, 2)
		alike("read back", got(agents.Get(r.ctx, made.ID, anthropic.BetaAgentGetParams{})), changed)
		late := anthropic.BetaAgentUpdateParams{Version: anthropic.Int(1), Name: anthropic.String("Late")}
		_, err := agents.Update(r.ctx, made.ID, late)
		refused(409, err)
	})
	cell("Beta.Agents.Versions.List", func() {
		one := anthropic.BetaAgentVersionListParams{Limit: anthropic.Int(1)}
		same("first page", got(agents.Versions.List(r.ctx, made.ID, one)).Data[0].Version, 2)
		listed := all(agents.Versions.ListAutoPaging(r.ctx, made.ID, one))
		same("versions", []int64{listed[0].Version, listed[1].Version}, []int64{2, 1})
	})
	one := anthropic.Int(1)
	life{
		create: func() string { return r.newAgent("Second").ID },
		page: func() []string {
			return each(got(agents.List(r.ctx, anthropic.BetaAgentListParams{Limit: one})).Data, agentID)
		},
		all: func(archived bool) []string {
			params := anthropic.BetaAgentListParams{Limit: one, IncludeArchived: anthropic.Bool(archived)}
			return ids(agents.ListAutoPaging(r.ctx, params), agentID)
		},
		archive: func(id string) (shown, error) {
			return ask(agents.Archive(r.ctx, id, anthropic.BetaAgentArchiveParams{}))
		},
		get: func(id string) (shown, error) { return ask(agents.Get(r.ctx, id, anthropic.BetaAgentGetParams{})) },
	}.prove("Beta.Agents", made.ID)
}

func (r *run) environments() {
	environments := r.client.Beta.Environments
	var made *anthropic.BetaEnvironment
	cell("Beta.Environments.New", func() {
		made = got(environments.New(r.ctx, anthropic.BetaEnvironmentNewParams{
			Name: "cell-go", Description: anthropic.String("of a table"), Metadata: map[string]string{"a": "b"},
			Config: anthropic.BetaEnvironmentNewParamsConfigUnion{OfCloud: &anthropic.BetaCloudConfigParams{
				Networking: anthropic.BetaCloudConfigParamsNetworkingUnion{OfLimited: &anthropic.BetaLimitedNetworkParams{
					AllowedHosts: []string{"api.example.com"},
				}},
			}},
		}))
		same("texts", []string{made.Name, made.Description}, []string{"cell-go", "of a table"})
		same("metadata", made.Metadata, map[string]string{"a": "b"})
		same("hosts", made.Config.Networking.AllowedHosts, []string{"api.example.com"})
	})
	cell("Beta.Environments.Get", func() {
		alike("read back", got(environments.Get(r.ctx, made.ID, anthropic.BetaEnvironmentGetParams{})), made)
	})
	cell("Beta.Environments.Update", func() {
		changed := got(environments.Update(r.ctx, made.ID, anthropic.BetaEnvironmentUpdateParams{
			Name: anthropic.String("other-go"), Metadata: map[string]string{"c": "d"},
		}))
		same("name", changed.Name, "other-go")
		same("metadata", changed.Metadata, map[string]string{"a": "b", "c": "d"})
		alike("read back", got(environments.Get(r.ctx, made.ID, anthropic.BetaEnvironmentGetParams{})), changed)
	})
	one := anthropic.Int(1)
	life{
		create: func() string {
			return got(environments.New(r.ctx, anthropic.BetaEnvironmentNewParams{Name: "second-go"})).ID
		},
		page: func() []string {
			return each(got(environments.List(r.ctx, anthropic.BetaEnvironmentListParams{Limit: one})).Data, environmentID)
		},
		all: func(archived bool) []string {
			params := anthropic.BetaEnvironmentListParams{Limit: one, IncludeArchived: anthropic.Bool(archived)}
			return ids(environments.ListAutoPaging(r.ctx, params), environmentID)
		},
		archive: func(id string) (shown, error) {
			return ask(environments.Archive(r.ctx, id, anthropic.BetaEnvironmentArchiveParams{}))
		},
		delete: func(id string) (shown, error) {
			return ask(environments.Delete(r.ctx, id, anthropic.BetaEnvironmentDeleteParams{}))
		},
		get: func(id string) (shown, error) {
			return ask(environments.Get(r.ctx, id, anthropic.BetaEnvironmentGetParams{}))
		},
	}.prove("Beta.Environments", made.ID)
}

func (r *run) unknownFields() {
	cell("unknown fields in a request", func() {
		made := got(r.client.Beta.Agents.New(r.ctx, anthropic.BetaAgentNewParams{
			Name:  "Future",
			Model: anthropic.BetaManagedAgentsModelConfigParams{ID: anthropic.BetaManagedAgentsModel(r.model)},
		}, option.WithJSONSet("of_the_future", map[string]any{"a": []int{1}}), option.WithQuery("of_the_future", "1")))
		same("name", made.Name, "Future")
		alike("read back", got(r.client.Beta.Agents.Get(r.ctx, made.ID, anthropic.BetaAgentGetParams{})), made)
	})
}

// page is what a person sees who opens a link of this server.
func (r *run) page(url string) string {
	holds("a link of this server", strings.HasPrefix(url, r.url+"/enroll/"))
	answer := got(http.Get(url))
	defer answer.Body.Close()
	return string(got(io.ReadAll(answer.Body)))
}
