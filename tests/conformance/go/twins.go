package main

// What the SDK has twice, as itself and under Beta, with types of its own each time: files, models, user profiles, skills. The
// cells are here once; each twin only says how its calls are made.

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/anthropics/anthropic-sdk-go/v2"
)

type fileCalls struct {
	upload        func(file io.Reader) (shown, error)
	get           func(id string) (shown, error)
	page, listAll func() []string
	download      func(id string) (*http.Response, error)
	written       func() (shown, error)
	delete        func(id string) (shown, error)
}

func (r *run) proveFiles(prefix string, calls fileCalls) {
	var made shown
	cell(prefix+".Upload", func() {
		made = got(calls.upload(anthropic.File(strings.NewReader("one line\n"), "notes.txt", "text/plain")))
		same("name", in(made, "filename"), any("notes.txt"))
		same("type", in(made, "mime_type"), any("text/plain"))
		same("size", in(made, "size_bytes"), any(9.0))
		holds("expiry", in(made, "expires_at") != nil)
	})
	cell(prefix+".GetMetadata", func() { alike("read back", got(calls.get(id(made))), made) })
	cell(prefix+".Download", func() {
		// What a client has uploaded is not given back: the refusal is the documented answer, and its code is read.
		_, err := calls.download(id(made))
		answer := refused(400, err)
		holds("file_not_downloadable", strings.Contains(answer.RawJSON(), "file_not_downloadable"))
		// What an agent has written is.
		same("written", in(got(calls.written()), "filename"), any("every-byte.bin"))
		same("content", body(got(calls.download(r.output))), everyByte())
	})
	life{
		create: func() string { return id(got(calls.upload(anthropic.File(strings.NewReader("b"), "b.bin", "")))) },
		page:   calls.page,
		all:    func(bool) []string { return calls.listAll() },
		delete: calls.delete, get: calls.get,
	}.prove(prefix, id(made))
}

func (r *run) files() {
	files := r.client.Files
	one := anthropic.FileListParams{Limit: anthropic.Int(1)}
	fileID := func(file anthropic.FileMetadata) string { return file.ID }
	r.proveFiles("Files", fileCalls{
		upload: func(file io.Reader) (shown, error) {
			return ask(files.Upload(r.ctx, anthropic.FileUploadParams{File: file, ExpiresInSeconds: anthropic.Int(7200)}))
		},
		get: func(id string) (shown, error) {
			return ask(files.GetMetadata(r.ctx, id, anthropic.FileGetMetadataParams{}))
		},
		page:    func() []string { return each(got(files.List(r.ctx, one)).Data, fileID) },
		listAll: func() []string { return ids(files.ListAutoPaging(r.ctx, one), fileID) },
		download: func(id string) (*http.Response, error) {
			return files.Download(r.ctx, id, anthropic.FileDownloadParams{})
		},
		written: func() (shown, error) {
			listed, err := files.List(r.ctx, anthropic.FileListParams{IDs: []string{r.output}})
			return only(listed.Data), err
		},
		delete: func(id string) (shown, error) { return ask(files.Delete(r.ctx, id, anthropic.FileDeleteParams{})) },
	})
}

func (r *run) betaFiles() {
	files := r.client.Beta.Files
	one := anthropic.BetaFileListParams{Limit: anthropic.Int(1)}
	fileID := func(file anthropic.BetaFileMetadata) string { return file.ID }
	r.proveFiles("Beta.Files", fileCalls{
		upload: func(file io.Reader) (shown, error) {
			return ask(files.Upload(r.ctx, anthropic.BetaFileUploadParams{File: file, ExpiresInSeconds: anthropic.Int(7200)}))
		},
		get: func(id string) (shown, error) {
			return ask(files.GetMetadata(r.ctx, id, anthropic.BetaFileGetMetadataParams{}))
		},
		page:    func() []string { return each(got(files.List(r.ctx, one)).Data, fileID) },
		listAll: func() []string { return ids(files.ListAutoPaging(r.ctx, one), fileID) },
		download: func(id string) (*http.Response, error) {
			return files.Download(r.ctx, id, anthropic.BetaFileDownloadParams{})
		},
		written: func() (shown, error) {
			listed, err := files.List(r.ctx, anthropic.BetaFileListParams{ScopeID: anthropic.String(r.outputSession)})
			return only(listed.Data), err
		},
		delete: func(id string) (shown, error) { return ask(files.Delete(r.ctx, id, anthropic.BetaFileDeleteParams{})) },
	})
}

func proveModels[T shown](prefix, name string, page, listed func() []T, get func(id string) (shown, error)) {
	named := func(model T) string { return id(model) }
	cell(prefix+".List", func() {
		found := each(listed(), named)
		holds("over pages", starts(found, each(page(), named)...) && has(found, name) && len(found) > 1)
	})
	cell(prefix+".Get", func() {
		for _, model := range listed() {
			alike("read back", got(get(id(model))), model)
		}
		_, err := get("no-such-model")
		refused(404, err)
	})
}

func (r *run) models() {
	models, one := r.client.Models, anthropic.ModelListParams{Limit: anthropic.Int(1)}
	proveModels("Models", r.model,
		func() []anthropic.ModelInfo { return got(models.List(r.ctx, one)).Data },
		func() []anthropic.ModelInfo { return all(models.ListAutoPaging(r.ctx, one)) },
		func(id string) (shown, error) { return ask(models.Get(r.ctx, id, anthropic.ModelGetParams{})) })
}

func (r *run) betaModels() {
	models, one := r.client.Beta.Models, anthropic.BetaModelListParams{Limit: anthropic.Int(1)}
	proveModels("Beta.Models", r.model,
		func() []anthropic.BetaModelInfo { return got(models.List(r.ctx, one)).Data },
		func() []anthropic.BetaModelInfo { return all(models.ListAutoPaging(r.ctx, one)) },
		func(id string) (shown, error) { return ask(models.Get(r.ctx, id, anthropic.BetaModelGetParams{})) })
}

type skillCalls struct {
	slug                      string
	create                    func(files []io.Reader) (shown, error)
	get, delete               func(id string) (shown, error)
	page, listAll             func() []string
	addVersion                func(skill string, files []io.Reader) (shown, error)
	getVersion, deleteVersion func(skill, version string) (shown, error)
	versionPage, allVersions  func(skill string) []string
}

func (calls skillCalls) folder(told string) []io.Reader {
	head := fmt.Sprintf("---\nname: %s\ndescription: %s\n---\n%s\n", calls.slug, told, told)
	return []io.Reader{
		anthropic.File(strings.NewReader(head), calls.slug+"/SKILL.md", "text/markdown"),
		anthropic.File(strings.NewReader("echo hello\n"), calls.slug+"/scripts/run.sh", "application/octet-stream"),
	}
}

// proveSkills gives its skill and the first version of it to more cells, and deletes both in the end.
func proveSkills(prefix string, calls skillCalls, more func(skill, version string)) {
	var made, second shown
	var first string
	cell(prefix+".New", func() {
		made = got(calls.create(calls.folder("First.")))
		same("name", in(made, "display_name"), any("A cell"))
		same("source", in(made, "source", "type"), any("custom"))
		first = fmt.Sprint(in(made, "latest_version_id"))
	})
	cell(prefix+".Get", func() { alike("read back", got(calls.get(id(made))), made) })
	cell(prefix+".List", func() {
		listed := calls.listAll()
		holds("over pages", has(listed, id(made)) && starts(listed, calls.page()...))
	})
	cell(prefix+".Versions.New", func() {
		second = got(calls.addVersion(id(made), calls.folder("Second.")))
		same("skill", in(second, "skill_id"), any(id(made)))
		same("texts", []any{in(second, "name"), in(second, "description")}, []any{calls.slug, "Second."})
		same("latest", in(got(calls.get(id(made))), "latest_version_id"), any(id(second)))
	})
	cell(prefix+".Versions.Get", func() {
		alike("read back", got(calls.getVersion(id(made), id(second))), second)
		alike("latest", got(calls.getVersion(id(made), "latest")), second)
		same("first", in(got(calls.getVersion(id(made), first)), "description"), any("First."))
	})
	cell(prefix+".Versions.List", func() {
		listed := calls.allVersions(id(made))
		holds("over pages", len(listed) == 2 && has(listed, first) && starts(listed, calls.versionPage(id(made))...))
	})
	more(id(made), first)
	cell(prefix+".Versions.Delete", func() {
		same("id", id(got(calls.deleteVersion(id(made), first))), first)
		same("versions", calls.allVersions(id(made)), []string{id(second)})
	})
	cell(prefix+".Delete", func() {
		same("id", id(got(calls.delete(id(made)))), id(made))
		_, err := calls.get(id(made))
		refused(404, err)
	})
}

func (r *run) skills() {
	skills := r.client.Skills
	one, oneVersion := anthropic.SkillListParams{Limit: anthropic.Int(1)}, anthropic.SkillVersionListParams{Limit: anthropic.Int(1)}
	skillID := func(skill anthropic.Skill) string { return skill.ID }
	versionID := func(version anthropic.SkillVersion) string { return version.ID }
	proveSkills("Skills", skillCalls{
		slug: "cell-go",
		create: func(files []io.Reader) (shown, error) {
			return ask(skills.New(r.ctx, anthropic.SkillNewParams{Files: files, DisplayName: anthropic.String("A cell")}))
		},
		get:     func(id string) (shown, error) { return ask(skills.Get(r.ctx, id, anthropic.SkillGetParams{})) },
		delete:  func(id string) (shown, error) { return ask(skills.Delete(r.ctx, id, anthropic.SkillDeleteParams{})) },
		page:    func() []string { return each(got(skills.List(r.ctx, one)).Data, skillID) },
		listAll: func() []string { return ids(skills.ListAutoPaging(r.ctx, one), skillID) },
		addVersion: func(skill string, files []io.Reader) (shown, error) {
			return ask(skills.Versions.New(r.ctx, skill, anthropic.SkillVersionNewParams{Files: files}))
		},
		getVersion: func(skill, version string) (shown, error) {
			return ask(skills.Versions.Get(r.ctx, version, anthropic.SkillVersionGetParams{SkillID: skill}))
		},
		deleteVersion: func(skill, version string) (shown, error) {
			return ask(skills.Versions.Delete(r.ctx, version, anthropic.SkillVersionDeleteParams{SkillID: skill}))
		},
		versionPage: func(skill string) []string {
			return each(got(skills.Versions.List(r.ctx, skill, oneVersion)).Data, versionID)
		},
		allVersions: func(skill string) []string {
			return ids(skills.Versions.ListAutoPaging(r.ctx, skill, oneVersion), versionID)
		},
	}, func(string, string) {})
}

func (r *run) betaSkills() {
	skills := r.client.Beta.Skills
	one, oneVersion := anthropic.BetaSkillListParams{Limit: anthropic.Int(1)}, anthropic.BetaSkillVersionListParams{Limit: anthropic.Int(1)}
	skillID := func(skill anthropic.BetaSkill) string { return skill.ID }
	versionID := func(version anthropic.BetaSkillVersion) string { return version.ID }
	calls := skillCalls{
		slug: "cell-beta-go",
		create: func(files []io.Reader) (shown, error) {
			return ask(skills.New(r.ctx, anthropic.BetaSkillNewParams{Files: files, DisplayName: anthropic.String("A cell")}))
		},
		get: func(id string) (shown, error) { return ask(skills.Get(r.ctx, id, anthropic.BetaSkillGetParams{})) },
		delete: func(id string) (shown, error) {
			return ask(skills.Delete(r.ctx, id, anthropic.BetaSkillDeleteParams{}))
		},
		page:    func() []string { return each(got(skills.List(r.ctx, one)).Data, skillID) },
		listAll: func() []string { return ids(skills.ListAutoPaging(r.ctx, one), skillID) },
		addVersion: func(skill string, files []io.Reader) (shown, error) {
			return ask(skills.Versions.New(r.ctx, skill, anthropic.BetaSkillVersionNewParams{Files: files}))
		},
		getVersion: func(skill, version string) (shown, error) {
			return ask(skills.Versions.Get(r.ctx, version, anthropic.BetaSkillVersionGetParams{SkillID: skill}))
		},
		deleteVersion: func(skill, version string) (shown, error) {
			return ask(skills.Versions.Delete(r.ctx, version, anthropic.BetaSkillVersionDeleteParams{SkillID: skill}))
		},
		versionPage: func(skill string) []string {
			return each(got(skills.Versions.List(r.ctx, skill, oneVersion)).Data, versionID)
		},
		allVersions: func(skill string) []string {
			return ids(skills.Versions.ListAutoPaging(r.ctx, skill, oneVersion), versionID)
		},
	}
	proveSkills("Beta.Skills", calls, func(skill, version string) {
		cell("Beta.Skills.Versions.Download", func() {
			params := anthropic.BetaSkillVersionDownloadParams{SkillID: skill}
			packed := body(got(skills.Versions.Download(r.ctx, version, params)))
			archive := got(zip.NewReader(bytes.NewReader(packed), int64(len(packed))))
			same("files", len(archive.File), 2)
			for i, path := range []string{"/SKILL.md", "/scripts/run.sh"} {
				text := got(io.ReadAll(got(archive.Open(calls.slug + path))))
				same(path, string(text), string(got(io.ReadAll(calls.folder("First.")[i]))))
			}
		})
	})
}

// only is the one item there is.
func only[T any](items []T) T {
	same("items", len(items), 1)
	return items[0]
}

// each is a text of each item.
func each[T any](items []T, text func(T) string) []string {
	var found []string
	for _, item := range items {
		found = append(found, text(item))
	}
	return found
}

func body(answer *http.Response) []byte {
	defer answer.Body.Close()
	return got(io.ReadAll(answer.Body))
}
