package main

import "strings"

// A life is how a kind of resource is listed, newest first, and how one of it ends.
type life struct {
	// Makes one more; gives its id.
	create func() string
	// The ids of the first page of one.
	page func() []string
	// The ids over pages of one, with the archived ones or without.
	all func(archived bool) []string
	// Nil where there is no such call.
	archive, delete func(id string) (shown, error)
	get             func(id string) (shown, error)
}

// prove is the cells of a list that has `made`, and of the ends of another one.
func (l life) prove(prefix, made string) {
	var second string
	cell(prefix+".List", func() {
		second = l.create()
		same("first page", l.page(), []string{second})
		listed := l.all(false)
		holds("newest first, over pages", starts(listed, second) && has(listed, made))
	})
	if l.archive != nil {
		cell(prefix+".Archive", func() {
			archived := got(l.archive(second))
			same("id", id(archived), second)
			holds("archived_at", in(archived, "archived_at") != nil)
			same("read back", in(got(l.get(second)), "archived_at"), in(archived, "archived_at"))
			holds("out of the list", !has(l.all(false), second))
			holds("in the whole list", has(l.all(true), second))
		})
	}
	if l.delete != nil {
		cell(prefix+".Delete", func() {
			deleted := got(l.delete(second))
			same("id", id(deleted), second)
			holds("type", strings.HasSuffix(in(deleted, "type").(string), "_deleted"))
			_, err := l.get(second)
			refused(404, err)
			holds("out of the whole list", !has(l.all(true), second))
		})
	}
}
