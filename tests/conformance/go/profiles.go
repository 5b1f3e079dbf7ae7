package main

// User profiles, as themselves and under Beta.

import (
	"fmt"
	"strings"

	"github.com/anthropics/anthropic-sdk-go/v2"
)

type profileCalls struct {
	create        func(name, reference string) (shown, error)
	get, delete   func(id string) (shown, error)
	update        func(id, name string, metadata map[string]string) (shown, error)
	page, listAll func() []string
	action        func(id string) (shown, error)
	reference     []string
}

func (r *run) proveProfiles(prefix string, calls profileCalls) shown {
	var made shown
	cell(prefix+".New", func() {
		made = got(calls.create("Ada", "u-1"))
		same("name", in(made, "name"), any("Ada"))
		same("access_type", in(made, "access_type"), any("passthrough"))
		same("reference", in(made, calls.reference...), any("u-1"))
		same("metadata", in(made, "metadata"), any(map[string]any{"a": "b"}))
	})
	cell(prefix+".Get", func() { alike("read back", got(calls.get(id(made))), made) })
	cell(prefix+".Update", func() {
		changed := got(calls.update(id(made), "Grace", map[string]string{"a": "", "c": "d"}))
		same("name", in(changed, "name"), any("Grace"))
		same("metadata", in(changed, "metadata"), any(map[string]any{"c": "d"}))
		alike("read back", got(calls.get(id(made))), changed)
	})
	cell(prefix+".ActionURLs.New", func() {
		link := got(calls.action(id(made)))
		same("type", in(link, "type"), any("user_profile_action_url"))
		holds("a page", strings.Contains(r.page(fmt.Sprint(in(link, "url"))), "nothing to do"))
	})
	life{
		create: func() string { return id(got(calls.create("Aaron", "u-2"))) },
		page:   calls.page,
		all:    func(bool) []string { return calls.listAll() },
		delete: calls.delete, get: calls.get,
	}.prove(prefix, id(made))
	return made
}

func (r *run) userProfiles() {
	profiles := r.client.UserProfiles
	one := anthropic.UserProfileListParams{Limit: anthropic.Int(1)}
	profileID := func(profile anthropic.UserProfile) string { return profile.ID }
	r.proveProfiles("UserProfiles", profileCalls{
		reference: []string{"external_user_details", "reference_id"},
		create: func(name, reference string) (shown, error) {
			return ask(profiles.New(r.ctx, anthropic.UserProfileNewParams{
				Name: anthropic.String(name), AccessType: anthropic.UserProfileAccessTypePassthrough,
				Metadata:            map[string]string{"a": "b"},
				ExternalUserDetails: anthropic.UserProfileExternalUserDetailsParams{ReferenceID: anthropic.String(reference)},
			}))
		},
		get: func(id string) (shown, error) { return ask(profiles.Get(r.ctx, id, anthropic.UserProfileGetParams{})) },
		update: func(id, name string, metadata map[string]string) (shown, error) {
			params := anthropic.UserProfileUpdateParams{Name: anthropic.String(name), Metadata: metadata}
			return ask(profiles.Update(r.ctx, id, params))
		},
		page:    func() []string { return each(got(profiles.List(r.ctx, one)).Data, profileID) },
		listAll: func() []string { return ids(profiles.ListAutoPaging(r.ctx, one), profileID) },
		action: func(id string) (shown, error) {
			return ask(profiles.ActionURLs.New(r.ctx, id, anthropic.UserProfileActionURLNewParams{
				Action: anthropic.UserProfileActionUnionParam{OfEnrollEndUser: &anthropic.UserProfileEnrollEndUserActionParam{}},
			}))
		},
		delete: func(id string) (shown, error) {
			return ask(profiles.Delete(r.ctx, id, anthropic.UserProfileDeleteParams{}))
		},
	})
}

func (r *run) betaUserProfiles() {
	profiles := r.client.Beta.UserProfiles
	one := anthropic.BetaUserProfileListParams{Limit: anthropic.Int(1)}
	profileID := func(profile anthropic.BetaUserProfile) string { return profile.ID }
	made := r.proveProfiles("Beta.UserProfiles", profileCalls{
		reference: []string{"external_id"},
		create: func(name, reference string) (shown, error) {
			return ask(profiles.New(r.ctx, anthropic.BetaUserProfileNewParams{
				Name: anthropic.String(name), AccessType: anthropic.BetaUserProfileNewParamsAccessTypePassthrough,
				Metadata: map[string]string{"a": "b"}, ExternalID: anthropic.String(reference),
			}))
		},
		get: func(id string) (shown, error) {
			return ask(profiles.Get(r.ctx, id, anthropic.BetaUserProfileGetParams{}))
		},
		update: func(id, name string, metadata map[string]string) (shown, error) {
			params := anthropic.BetaUserProfileUpdateParams{Name: anthropic.String(name), Metadata: metadata}
			return ask(profiles.Update(r.ctx, id, params))
		},
		page:    func() []string { return each(got(profiles.List(r.ctx, one)).Data, profileID) },
		listAll: func() []string { return ids(profiles.ListAutoPaging(r.ctx, one), profileID) },
		action: func(id string) (shown, error) {
			return ask(profiles.ActionURLs.New(r.ctx, id, anthropic.BetaUserProfileActionURLNewParams{
				Action: anthropic.BetaUserProfileActionUnionParam{OfEnrollEndUser: &anthropic.BetaUserProfileEnrollEndUserActionParam{}},
			}))
		},
		delete: func(id string) (shown, error) {
			return ask(profiles.Delete(r.ctx, id, anthropic.BetaUserProfileDeleteParams{}))
		},
	})
	cell("Beta.UserProfiles.NewEnrollmentURL", func() {
		link := got(profiles.NewEnrollmentURL(r.ctx, id(made), anthropic.BetaUserProfileNewEnrollmentURLParams{}))
		holds("a page", strings.Contains(r.page(link.URL), "nothing to do"))
	})
}
