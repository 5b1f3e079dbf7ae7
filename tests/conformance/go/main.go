// Command conformance makes every managed-agents call of the official Go SDK against a running server, and prints for each call
// how it went, one JSON object a line: first {"calls": […]}, the calls that the SDK has by its own types, then the cells.
//
// It reads CONFORMANCE_URL, CONFORMANCE_KEY, CONFORMANCE_MODEL, CONFORMANCE_OUTPUT and CONFORMANCE_OUTPUT_SESSION.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"
)

// How long all of it may take.
const allowed = 5 * time.Minute

// What a cell panics with when something is not as it must be.
type broken string

func (b broken) Error() string { return string(b) }

// A run is a client, and what its cells need.
type run struct {
	ctx    context.Context
	client anthropic.Client
	model  string
	url    string
	// A file that an agent wrote, each byte once in order, and its session.
	output, outputSession string
}

func everyByte() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), allowed)
	defer cancel()
	url := os.Getenv("CONFORMANCE_URL")
	client := anthropic.NewClient(option.WithBaseURL(url), option.WithAPIKey(os.Getenv("CONFORMANCE_KEY")))
	r := &run{
		ctx: ctx, client: client, model: os.Getenv("CONFORMANCE_MODEL"), url: url,
		output: os.Getenv("CONFORMANCE_OUTPUT"), outputSession: os.Getenv("CONFORMANCE_OUTPUT_SESSION"),
	}
	tell(map[string]any{"calls": r.inventory()})
	for name, group := range map[string]func(){
		"agents": r.agents, "environments": r.environments, "files": r.files, "beta files": r.betaFiles,
		"vaults": r.vaults, "credentials": r.credentials, "sessions": r.sessions, "events": r.events,
		"threads": r.threads, "resources": r.resources, "tool runner": r.toolRunner, "models": r.models,
		"beta models": r.betaModels, "user profiles": r.userProfiles, "beta user profiles": r.betaUserProfiles,
		"memory stores": r.memoryStores, "memories": r.memories, "skills": r.skills, "beta skills": r.betaSkills,
		"unknown fields": r.unknownFields, "later": r.later, "webhooks": r.webhooks,
		"the helpers": r.helpers,
	} {
		if err := attempt(group); err != nil {
			told("what the cells of "+name+" need", "red", err)
		}
	}
}

// cell runs what proves a call: green when it does not panic.
func cell(call string, proof func()) { prove(call, "green", proof) }

// local is the same for what needs no server.
func local(call string, proof func()) { prove(call, "local", proof) }

func prove(call, good string, proof func()) {
	err := attempt(proof)
	var answer *anthropic.Error
	switch {
	case err == nil:
		told(call, good, nil)
	case errors.As(err, &answer) && answer.StatusCode == 501:
		told(call, "not built", nil)
	default:
		told(call, "red", err)
	}
}

func attempt(proof func()) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			if as, ok := caught.(error); ok {
				err = as
			} else {
				err = fmt.Errorf("%v", caught)
			}
		}
	}()
	proof()
	return nil
}

func told(call, result string, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	tell(map[string]any{"client": "go", "call": call, "result": result, "reason": reason})
}

func tell(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// got is a call's answer; its error breaks the cell.
func got[T any](answer T, err error) T {
	if err != nil {
		panic(err)
	}
	return answer
}

// same breaks the cell when two values differ.
func same[T any](what string, found, wanted T) {
	if !reflect.DeepEqual(found, wanted) {
		panic(broken(fmt.Sprintf("%s: found %v, wanted %v", what, found, wanted)))
	}
}

// holds breaks the cell when something is not so.
func holds(what string, so bool) {
	if !so {
		panic(broken(what))
	}
}

// shown is an answer of the server that knows its own JSON.
type shown interface{ RawJSON() string }

// in is a member of an answer, by the path to it.
func in(answer shown, path ...string) any {
	var value any
	if err := json.Unmarshal([]byte(answer.RawJSON()), &value); err != nil {
		panic(err)
	}
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

// id is an answer's own id.
func id(answer shown) string { return fmt.Sprint(in(answer, "id")) }

// ask gives a call's answer by what all answers can do.
func ask[T shown](answer T, err error) (shown, error) { return answer, err }

// alike breaks the cell when two answers are not the same JSON.
func alike(what string, found, wanted shown) {
	same(what, found.RawJSON(), wanted.RawJSON())
}

// refused breaks the cell unless an error is an answer with this status.
func refused(status int, err error) *anthropic.Error {
	var answer *anthropic.Error
	if !errors.As(err, &answer) {
		panic(broken(fmt.Sprintf("expected status %d, got %v", status, err)))
	}
	same("status", answer.StatusCode, status)
	return answer
}

// paged is what every list of the SDK walks with.
type paged[T any] interface {
	Next() bool
	Current() T
	Err() error
}

// all walks every page of a list.
func all[T any](pages paged[T]) []T {
	var items []T
	for pages.Next() {
		items = append(items, pages.Current())
	}
	if err := pages.Err(); err != nil {
		panic(err)
	}
	return items
}

// ids walks every page of a list for one text of each item.
func ids[T any](pages paged[T], id func(T) string) []string {
	var found []string
	for _, item := range all(pages) {
		found = append(found, id(item))
	}
	return found
}

// starts says whether a list begins with these texts.
func starts(list []string, first ...string) bool {
	return len(list) >= len(first) && reflect.DeepEqual(list[:len(first)], first)
}

// has says whether a text is in a list.
func has(list []string, one string) bool {
	for _, other := range list {
		if other == one {
			return true
		}
	}
	return false
}

// The services of managed agents and what is beside them, by the path to them.
func (r *run) services() map[string]reflect.Value {
	found := map[string]reflect.Value{}
	var walk func(value reflect.Value, path string)
	walk = func(value reflect.Value, path string) {
		found[path] = value.Addr()
		for i := range value.NumField() {
			field := value.Type().Field(i)
			if strings.HasSuffix(field.Type.Name(), "Service") && field.Name != "Messages" && field.Name != "Organization" {
				walk(value.Field(i), path+"."+field.Name)
			}
		}
	}
	client := reflect.ValueOf(&r.client).Elem()
	for _, name := range []string{"Beta", "Files", "Models", "Skills", "UserProfiles"} {
		walk(client.FieldByName(name), name)
	}
	webhooks := client.FieldByName("Beta").FieldByName("Organization").FieldByName("Webhooks")
	walk(webhooks, "Beta.Organization.Webhooks")
	return found
}

// inventory is every call that the services have.
func (r *run) inventory() []string {
	var calls []string
	for path, service := range r.services() {
		for i := range service.NumMethod() {
			name := service.Type().Method(i).Name
			// The same call, walked over its pages: its cell does both.
			if !strings.HasSuffix(name, "AutoPaging") {
				calls = append(calls, path+"."+name)
			}
		}
	}
	return calls
}

// later makes each call of what the server does not have: 501, in the contract's envelope, and not to be tried again.
func (r *run) later() {
	for path, service := range r.services() {
		if !isLater(path) {
			continue
		}
		for i := range service.NumMethod() {
			name := service.Type().Method(i).Name
			if strings.HasSuffix(name, "AutoPaging") {
				continue
			}
			cell(path+"."+name, func() {
				out := service.Method(i).Call(r.someArguments(service.Method(i).Type()))
				err, _ := out[len(out)-1].Interface().(error)
				answer := refused(501, err)
				same("x-should-retry", answer.Response.Header.Get("x-should-retry"), "false")
				holds("an envelope", strings.Contains(answer.RawJSON(), `"api_error"`))
				panic(answer)
			})
		}
	}
}

func isLater(path string) bool {
	for _, prefix := range []string{
		"Beta.Environments.Work", "Beta.Deployments", "Beta.DeploymentRuns", "Beta.Dreams", "Beta.Tunnels",
		"Beta.Organization.Webhooks",
	} {
		if path == prefix || strings.HasPrefix(path, prefix+".") {
			return true
		}
	}
	return false
}

// someArguments is what a call needs at least: a context, ids, and parameters with ids.
func (r *run) someArguments(method reflect.Type) []reflect.Value {
	var given []reflect.Value
	for i := range method.NumIn() {
		kind := method.In(i)
		switch {
		case i == 0:
			given = append(given, reflect.ValueOf(r.ctx))
		case method.IsVariadic() && i == method.NumIn()-1:
		case kind.Kind() == reflect.String:
			given = append(given, reflect.ValueOf("01none"))
		default:
			params := reflect.New(kind).Elem()
			for _, name := range []string{"EnvironmentID", "TunnelID"} {
				if field := params.FieldByName(name); field.IsValid() && field.Kind() == reflect.String {
					field.SetString("01none")
				}
			}
			given = append(given, params)
		}
	}
	return given
}
