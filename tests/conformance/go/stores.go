package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/anthropics/anthropic-sdk-go/v2"
)

func vaultID(vault anthropic.BetaManagedAgentsVault) string                { return vault.ID }
func credentialID(credential anthropic.BetaManagedAgentsCredential) string { return credential.ID }
func storeID(store anthropic.BetaManagedAgentsMemoryStore) string          { return store.ID }

func (r *run) vaults() {
	vaults := r.client.Beta.Vaults
	var made *anthropic.BetaManagedAgentsVault
	cell("Beta.Vaults.New", func() {
		made = got(vaults.New(r.ctx, anthropic.BetaVaultNewParams{DisplayName: "keys", Metadata: map[string]string{"a": "b"}}))
		same("name", made.DisplayName, "keys")
		same("metadata", made.Metadata, map[string]string{"a": "b"})
	})
	cell("Beta.Vaults.Get", func() { alike("read back", got(vaults.Get(r.ctx, made.ID, anthropic.BetaVaultGetParams{})), made) })
	cell("Beta.Vaults.Update", func() {
		changed := got(vaults.Update(r.ctx, made.ID, anthropic.BetaVaultUpdateParams{DisplayName: anthropic.String("other")}))
		same("name", changed.DisplayName, "other")
		alike("read back", got(vaults.Get(r.ctx, made.ID, anthropic.BetaVaultGetParams{})), changed)
	})
	one := anthropic.Int(1)
	life{
		create: func() string {
			return got(vaults.New(r.ctx, anthropic.BetaVaultNewParams{DisplayName: "second"})).ID
		},
		page: func() []string {
			return each(got(vaults.List(r.ctx, anthropic.BetaVaultListParams{Limit: one})).Data, vaultID)
		},
		all: func(archived bool) []string {
			params := anthropic.BetaVaultListParams{Limit: one, IncludeArchived: anthropic.Bool(archived)}
			return ids(vaults.ListAutoPaging(r.ctx, params), vaultID)
		},
		archive: func(id string) (shown, error) {
			return ask(vaults.Archive(r.ctx, id, anthropic.BetaVaultArchiveParams{}))
		},
		delete: func(id string) (shown, error) {
			return ask(vaults.Delete(r.ctx, id, anthropic.BetaVaultDeleteParams{}))
		},
		get: func(id string) (shown, error) { return ask(vaults.Get(r.ctx, id, anthropic.BetaVaultGetParams{})) },
	}.prove("Beta.Vaults", made.ID)
}

func (r *run) credentials() {
	credentials, secret := r.client.Beta.Vaults.Credentials, "cell-secret"
	vault := got(r.client.Beta.Vaults.New(r.ctx, anthropic.BetaVaultNewParams{DisplayName: "keys"})).ID
	var made *anthropic.BetaManagedAgentsCredential
	get := func(id string) (*anthropic.BetaManagedAgentsCredential, error) {
		return credentials.Get(r.ctx, id, anthropic.BetaVaultCredentialGetParams{VaultID: vault})
	}
	cell("Beta.Vaults.Credentials.New", func() {
		made = got(credentials.New(r.ctx, vault, anthropic.BetaVaultCredentialNewParams{
			Auth: anthropic.BetaVaultCredentialNewParamsAuthUnion{OfStaticBearer: &anthropic.BetaManagedAgentsStaticBearerCreateParams{
				Token: secret, MCPServerURL: "https://mcp.invalid/v1",
			}},
			DisplayName: anthropic.String("one"), Metadata: map[string]string{"a": "b"},
		}))
		same("auth", []string{made.Auth.Type, made.Auth.MCPServerURL}, []string{"static_bearer", "https://mcp.invalid/v1"})
		same("name", made.DisplayName, "one")
		same("metadata", made.Metadata, map[string]string{"a": "b"})
		holds("no secret", !strings.Contains(made.RawJSON(), secret))
	})
	cell("Beta.Vaults.Credentials.Get", func() { alike("read back", got(get(made.ID)), made) })
	cell("Beta.Vaults.Credentials.Update", func() {
		params := anthropic.BetaVaultCredentialUpdateParams{VaultID: vault, DisplayName: anthropic.String("two")}
		changed := got(credentials.Update(r.ctx, made.ID, params))
		same("name", changed.DisplayName, "two")
		alike("read back", got(get(made.ID)), changed)
	})
	cell("Beta.Vaults.Credentials.MCPOAuthValidate", func() {
		third := got(credentials.New(r.ctx, vault, anthropic.BetaVaultCredentialNewParams{
			Auth: anthropic.BetaVaultCredentialNewParamsAuthUnion{OfMCPOAuth: &anthropic.BetaManagedAgentsMCPOAuthCreateParams{
				MCPServerURL: "https://oauth.invalid/mcp", AccessToken: secret,
			}},
		}))
		params := anthropic.BetaVaultCredentialMCPOAuthValidateParams{VaultID: vault}
		tried := got(credentials.MCPOAuthValidate(r.ctx, third.ID, params))
		// The server of it does not exist, which says nothing about the credential.
		same("tried", []string{tried.CredentialID, tried.VaultID, string(tried.Status)}, []string{third.ID, vault, "unknown"})
	})
	one := anthropic.Int(1)
	life{
		create: func() string {
			second := got(credentials.New(r.ctx, vault, anthropic.BetaVaultCredentialNewParams{
				Auth: anthropic.BetaVaultCredentialNewParamsAuthUnion{
					OfEnvironmentVariable: &anthropic.BetaManagedAgentsEnvironmentVariableCreateParams{
						SecretName: "API_KEY", SecretValue: secret,
						Networking: anthropic.BetaManagedAgentsCredentialNetworkingParamsOfLimited([]string{"api.example.com"}),
					},
				},
			}))
			same("hosts", second.Auth.Networking.AllowedHosts, []string{"api.example.com"})
			return second.ID
		},
		page: func() []string {
			params := anthropic.BetaVaultCredentialListParams{Limit: one}
			return each(got(credentials.List(r.ctx, vault, params)).Data, credentialID)
		},
		all: func(archived bool) []string {
			params := anthropic.BetaVaultCredentialListParams{Limit: one, IncludeArchived: anthropic.Bool(archived)}
			return ids(credentials.ListAutoPaging(r.ctx, vault, params), credentialID)
		},
		archive: func(id string) (shown, error) {
			return ask(credentials.Archive(r.ctx, id, anthropic.BetaVaultCredentialArchiveParams{VaultID: vault}))
		},
		delete: func(id string) (shown, error) {
			return ask(credentials.Delete(r.ctx, id, anthropic.BetaVaultCredentialDeleteParams{VaultID: vault}))
		},
		get: func(id string) (shown, error) { return ask(get(id)) },
	}.prove("Beta.Vaults.Credentials", made.ID)
}

func (r *run) memoryStores() {
	stores := r.client.Beta.MemoryStores
	var made *anthropic.BetaManagedAgentsMemoryStore
	get := func(id string) (*anthropic.BetaManagedAgentsMemoryStore, error) {
		return stores.Get(r.ctx, id, anthropic.BetaMemoryStoreGetParams{})
	}
	cell("Beta.MemoryStores.New", func() {
		made = got(stores.New(r.ctx, anthropic.BetaMemoryStoreNewParams{
			Name: "notes", Description: anthropic.String("of cells"), Metadata: map[string]string{"a": "b"},
		}))
		same("texts", []string{made.Name, made.Description}, []string{"notes", "of cells"})
		same("metadata", made.Metadata, map[string]string{"a": "b"})
	})
	cell("Beta.MemoryStores.Get", func() { alike("read back", got(get(made.ID)), made) })
	cell("Beta.MemoryStores.Update", func() {
		params := anthropic.BetaMemoryStoreUpdateParams{Name: anthropic.String("other"), Description: anthropic.String("")}
		changed := got(stores.Update(r.ctx, made.ID, params))
		same("texts", []string{changed.Name, changed.Description}, []string{"other", ""})
		alike("read back", got(get(made.ID)), changed)
	})
	one := anthropic.Int(1)
	life{
		create: func() string {
			return got(stores.New(r.ctx, anthropic.BetaMemoryStoreNewParams{Name: "second"})).ID
		},
		page: func() []string {
			return each(got(stores.List(r.ctx, anthropic.BetaMemoryStoreListParams{Limit: one})).Data, storeID)
		},
		all: func(archived bool) []string {
			params := anthropic.BetaMemoryStoreListParams{Limit: one, IncludeArchived: anthropic.Bool(archived)}
			return ids(stores.ListAutoPaging(r.ctx, params), storeID)
		},
		archive: func(id string) (shown, error) {
			return ask(stores.Archive(r.ctx, id, anthropic.BetaMemoryStoreArchiveParams{}))
		},
		delete: func(id string) (shown, error) {
			return ask(stores.Delete(r.ctx, id, anthropic.BetaMemoryStoreDeleteParams{}))
		},
		get: func(id string) (shown, error) { return ask(get(id)) },
	}.prove("Beta.MemoryStores", made.ID)
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func (r *run) memories() {
	memories, versions := r.client.Beta.MemoryStores.Memories, r.client.Beta.MemoryStores.MemoryVersions
	store := got(r.client.Beta.MemoryStores.New(r.ctx, anthropic.BetaMemoryStoreNewParams{Name: "cells"})).ID
	get := func(id string) (*anthropic.BetaManagedAgentsMemory, error) {
		return memories.Get(r.ctx, id, anthropic.BetaMemoryStoreMemoryGetParams{MemoryStoreID: store})
	}
	var made, changed, top *anthropic.BetaManagedAgentsMemory
	cell("Beta.MemoryStores.Memories.New", func() {
		params := anthropic.BetaMemoryStoreMemoryNewParams{
			Path: "/a/one.md", Content: anthropic.String("ein Häuschen\n"), View: anthropic.BetaManagedAgentsMemoryViewFull,
		}
		made = got(memories.New(r.ctx, store, params))
		same("content", []string{made.Path, made.Content, made.ContentSha256},
			[]string{"/a/one.md", "ein Häuschen\n", digest("ein Häuschen\n")})
		_, err := memories.New(r.ctx, store, params)
		holds("told apart", strings.Contains(refused(409, err).RawJSON(), "memory_path_conflict_error"))
	})
	cell("Beta.MemoryStores.Memories.Get", func() { alike("read back", got(get(made.ID)), made) })
	cell("Beta.MemoryStores.Memories.Update", func() {
		params := anthropic.BetaMemoryStoreMemoryUpdateParams{
			MemoryStoreID: store, Content: anthropic.String("zwei"), Path: anthropic.String("/a/two.md"),
			View:         anthropic.BetaManagedAgentsMemoryViewFull,
			Precondition: anthropic.BetaManagedAgentsPreconditionParam{ContentSha256: anthropic.String(made.ContentSha256)},
		}
		changed = got(memories.Update(r.ctx, made.ID, params))
		same("changed", []string{changed.ID, changed.Path, changed.Content}, []string{made.ID, "/a/two.md", "zwei"})
		alike("read back", got(get(made.ID)), changed)
		params.Content = anthropic.String("late")
		_, err := memories.Update(r.ctx, made.ID, params)
		holds("told apart", strings.Contains(refused(409, err).RawJSON(), "memory_precondition_failed_error"))
	})
	cell("Beta.MemoryStores.Memories.List", func() {
		params := anthropic.BetaMemoryStoreMemoryNewParams{Path: "/top.md", Content: anthropic.String("t")}
		top = got(memories.New(r.ctx, store, params))
		path := func(item anthropic.BetaManagedAgentsMemoryListItemUnion) string { return item.Type + " " + item.Path }
		one := anthropic.BetaMemoryStoreMemoryListParams{Limit: anthropic.Int(1)}
		same("first page", len(got(memories.List(r.ctx, store, one)).Data), 1)
		same("all", ids(memories.ListAutoPaging(r.ctx, store, one), path), []string{"memory /a/two.md", "memory /top.md"})
		folded := anthropic.BetaMemoryStoreMemoryListParams{Depth: anthropic.Int(1)}
		same("folded", ids(memories.ListAutoPaging(r.ctx, store, folded), path), []string{"memory_prefix /a/", "memory /top.md"})
	})
	cell("Beta.MemoryStores.Memories.Delete", func() {
		params := anthropic.BetaMemoryStoreMemoryDeleteParams{
			MemoryStoreID: store, ExpectedContentSha256: anthropic.String(digest("t")),
		}
		same("id", got(memories.Delete(r.ctx, top.ID, params)).ID, top.ID)
		_, err := get(top.ID)
		refused(404, err)
	})
	version := func(id string) (*anthropic.BetaManagedAgentsMemoryVersion, error) {
		return versions.Get(r.ctx, id, anthropic.BetaMemoryStoreMemoryVersionGetParams{MemoryStoreID: store})
	}
	var first string
	cell("Beta.MemoryStores.MemoryVersions.List", func() {
		of := anthropic.BetaMemoryStoreMemoryVersionListParams{MemoryID: anthropic.String(made.ID), Limit: anthropic.Int(1)}
		same("first page", got(versions.List(r.ctx, store, of)).Data[0].ID, changed.MemoryVersionID)
		listed := all(versions.ListAutoPaging(r.ctx, store, of))
		same("operations", []string{string(listed[0].Operation), string(listed[1].Operation)}, []string{"modified", "created"})
		same("actor", listed[0].CreatedBy.Type, "api_actor")
		first = listed[1].ID
	})
	cell("Beta.MemoryStores.MemoryVersions.Get", func() {
		found := got(version(first))
		same("content", []string{found.ID, found.Path, found.Content}, []string{first, "/a/one.md", "ein Häuschen\n"})
	})
	cell("Beta.MemoryStores.MemoryVersions.Redact", func() {
		params := anthropic.BetaMemoryStoreMemoryVersionRedactParams{MemoryStoreID: store}
		redacted := got(versions.Redact(r.ctx, first, params))
		same("gone", []string{redacted.ID, redacted.Path, redacted.Content}, []string{first, "", ""})
		alike("read back", got(version(first)), redacted)
	})
}
