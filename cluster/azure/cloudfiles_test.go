package azure

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// serveFiles is Azure Files, as far as uploads use it.
func (c *cloud) serveFiles(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := []byte{}
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	parts := strings.SplitN(strings.Trim(req.URL.Path, "/"), "/", 2)
	account, _, _ := strings.Cut(req.URL.Host, ".")
	share := c.share(account, parts[0])
	if share == nil || !strings.HasPrefix(req.Header.Get("Authorization"), "SharedKey ") {
		return failure(req, 404, "ShareNotFound"), nil
	}
	meta := map[string]string{}
	for name, values := range req.Header {
		if n, ok := strings.CutPrefix(strings.ToLower(name), "x-ms-meta-"); ok {
			meta[n] = values[0]
		}
	}
	if len(parts) == 1 {
		share.properties["metadata"] = meta
		return reply(req, 200, nil), nil
	}
	id := account + "/" + parts[0] + "/" + parts[1]
	query := req.URL.Query()
	switch {
	case req.Method == http.MethodPut && query.Get("restype") == "directory":
		return c.makeDir(req, id), nil
	case req.Method == http.MethodPut && query.Get("comp") == "":
		return c.makeFile(req, id, meta), nil
	case c.files[id] == nil:
		return failure(req, 404, "ResourceNotFound"), nil
	}
	return c.serveFile(req, id, query.Get("comp"), body, meta), nil
}

func (c *cloud) makeDir(req *http.Request, id string) *http.Response {
	if c.files[id] != nil {
		return failure(req, 409, "ResourceAlreadyExists")
	}
	c.files[id] = &remote{dir: true}
	return reply(req, 201, nil)
}

func (c *cloud) makeFile(req *http.Request, id string, meta map[string]string) *http.Response {
	dir := id[:strings.LastIndex(id, "/")]
	if strings.Count(dir, "/") > 1 && (c.files[dir] == nil || !c.files[dir].dir) {
		return failure(req, 404, "ParentNotFound")
	}
	var size int
	_, _ = fmt.Sscan(header(req, "X-Ms-Content-Length"), &size)
	c.files[id] = &remote{data: make([]byte, size), meta: meta}
	return reply(req, 201, nil)
}

// serveFile answers what is asked of a file that there is.
func (c *cloud) serveFile(req *http.Request, id, comp string, body []byte, meta map[string]string) *http.Response {
	f := c.files[id]
	switch {
	case req.Method == http.MethodPut && comp == "range":
		var from int
		_, _ = fmt.Sscanf(header(req, "X-Ms-Range"), "bytes=%d-", &from)
		copy(f.data[from:], body)
		return reply(req, 201, nil)
	case req.Method == http.MethodPut && comp == "metadata":
		f.meta = meta
		return reply(req, 200, nil)
	case req.Method == http.MethodDelete:
		delete(c.files, id)
		return reply(req, 202, nil)
	}
	resp := reply(req, 200, nil)
	resp.Header.Set("Content-Length", fmt.Sprint(len(f.data)))
	for name, value := range f.meta {
		resp.Header.Set("X-Ms-Meta-"+name, value)
	}
	if req.Method == http.MethodGet {
		resp.Body = io.NopCloser(strings.NewReader(string(f.data)))
	}
	return resp
}

// header is one that the SDK has written in small letters.
func header(req *http.Request, name string) string {
	for key, values := range req.Header {
		if equalFold(key, name) {
			return values[0]
		}
	}
	return ""
}

func (c *cloud) share(account, name string) *thing {
	for id, t := range c.resources {
		if strings.HasSuffix(id, "/"+account+"/fileservices/default/shares/"+name) {
			return t
		}
	}
	return nil
}
