package main

// What the SDK does around its calls: pages by hand, answers as they are, uploads from many places, webhooks.

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"
)

func (r *run) helpers() {
	agents := r.client.Beta.Agents
	var made []string
	for i := range 3 {
		made = append([]string{r.newAgent(fmt.Sprint("Page ", i)).ID}, made...)
	}
	cell("helper: pages by hand", func() {
		var seen []string
		page := got(agents.List(r.ctx, anthropic.BetaAgentListParams{Limit: anthropic.Int(2)}))
		for page != nil {
			holds("two at most", len(page.Data) <= 2)
			seen = append(seen, each(page.Data, agentID)...)
			page = got(page.GetNextPage())
		}
		same("newest first", seen[:3], made)
		every := anthropic.BetaAgentListParams{Limit: anthropic.Int(100)}
		same("all", seen, ids(agents.ListAutoPaging(r.ctx, every), agentID))
	})
	cell("helper: raw answers", func() {
		var raw *http.Response
		agent := got(agents.Get(r.ctx, made[0], anthropic.BetaAgentGetParams{}, option.WithResponseInto(&raw)))
		same("agent", agent.ID, made[0])
		same("status", raw.StatusCode, 200)
		same("type", raw.Header.Get("content-type"), "application/json")
		holds("request-id", raw.Header.Get("request-id") != "")
		_, err := agents.Get(r.ctx, "agent_01none", anthropic.BetaAgentGetParams{})
		answer := refused(404, err)
		same("request id", answer.RequestID, answer.Response.Header.Get("request-id"))
	})
	cell("helper: streamed answers", func() {
		answer := got(r.client.Beta.Files.Download(r.ctx, r.output, anthropic.BetaFileDownloadParams{}))
		defer answer.Body.Close()
		var parts []byte
		for part := make([]byte, 64); ; {
			read, err := answer.Body.Read(part)
			parts = append(parts, part[:read]...)
			if err == io.EOF {
				break
			}
			got(read, err)
		}
		same("bytes", parts, everyByte())
	})
	r.uploads()
}

// uploads sends a file from each place that the SDK takes one from.
func (r *run) uploads() {
	folder := got(os.MkdirTemp("", "manyhands-go-"))
	defer os.RemoveAll(folder)
	cell("helper: uploads from a path, bytes and a reader", func() {
		path := filepath.Join(folder, "up.txt")
		got(0, os.WriteFile(path, []byte("up\n"), 0o600))
		opened := got(os.Open(path))
		defer opened.Close()
		for _, given := range []io.Reader{
			opened,
			anthropic.File(bytes.NewReader([]byte("up\n")), "up.txt", ""),
			anthropic.File(strings.NewReader("up\n"), "up.txt", "text/plain"),
		} {
			sent := got(r.client.Beta.Files.Upload(r.ctx, anthropic.BetaFileUploadParams{File: given}))
			same("name", sent.Filename, "up.txt")
			same("size", sent.SizeBytes, 3)
			alike("read back", got(r.client.Beta.Files.GetMetadata(r.ctx, sent.ID, anthropic.BetaFileGetMetadataParams{})), sent)
		}
	})
}

// signed is the headers of a delivery.
func signed(body, key string) http.Header {
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "msg_1.%s.%s", at, body)
	headers := http.Header{}
	headers.Set("webhook-id", "msg_1")
	headers.Set("webhook-timestamp", at)
	headers.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return headers
}

// webhooks needs no server: what is signed with the key is taken, and nothing else.
func (r *run) webhooks() {
	const key = "of the receiver of these deliveries"
	const delivered = `{"type":"event","id":"whevt_01none","created_at":"2026-10-21T00:00:00Z","data":{"type":"session.status_idled",` +
		`"id":"sesn_01none","organization_id":"org_01none","workspace_id":"wrkspc_01none"}}`
	client := anthropic.NewClient(
		option.WithAPIKey("none"), option.WithWebhookKey("whsec_"+base64.StdEncoding.EncodeToString([]byte(key))))
	webhooks := client.Beta.Webhooks
	is := func(event *anthropic.UnwrapWebhookEvent) {
		var found, wanted any
		got(0, json.Unmarshal([]byte(event.RawJSON()), &found))
		got(0, json.Unmarshal([]byte(delivered), &wanted))
		same("event", found, wanted)
		same("session", []string{event.Data.Type, event.Data.ID}, []string{"session.status_idled", "sesn_01none"})
	}
	local("Beta.Webhooks.Unwrap", func() {
		is(got(webhooks.Unwrap([]byte(delivered), signed(delivered, key))))
		for _, forged := range []http.Header{signed(delivered, "of another"), signed(delivered+" ", key)} {
			_, err := webhooks.Unwrap([]byte(delivered), forged)
			holds("a forged one is refused", err != nil)
		}
	})
	local("Beta.Webhooks.ParseUnverified", func() { is(got(webhooks.ParseUnverified([]byte(delivered)))) })
}
