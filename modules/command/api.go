package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// api is the admin endpoint of a running Caddy.
type api struct{ address string }

// bodyLimit bounds what is read of a reply.
const bodyLimit = 64 << 20

// request asks the admin endpoint. The caller closes the body. What the API
// refuses is an error with its words.
func (a *api) request(method, path string, body any) (io.ReadCloser, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	// Each request has a client of its own, whose connection must not stay.
	reply, err := caddycmd.AdminAPIRequest(a.address, method, path, http.Header{"Connection": {"close"}}, content)
	if err != nil {
		return nil, a.wrap(err)
	}
	return reply.Body, nil
}

// wrap says where an error is from. Caddy puts the body of a refusal into the text of its error: of ours the words are enough.
func (a *api) wrap(err error) error {
	var refusal struct {
		Error string `json:"error"`
	}
	if _, body, ok := strings.Cut(err.Error(), "{"); ok && json.Unmarshal([]byte("{"+body), &refusal) == nil && refusal.Error != "" {
		return fmt.Errorf("admin API at %s: %s", a.address, refusal.Error)
	}
	return fmt.Errorf("admin API at %s: %w", a.address, err)
}

// call is request for a reply of JSON, decoded into v.
func (a *api) call(method, path string, body, v any) error {
	reply, err := a.request(method, path, body)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(io.LimitReader(reply, bodyLimit))
	if err = errors.Join(err, reply.Close()); err != nil {
		return a.wrap(err)
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("admin API at %s: %s %s: %w", a.address, method, path, err)
	}
	return nil
}

// metrics returns the page of metrics.
func (a *api) metrics(context.Context) (io.ReadCloser, error) {
	return a.request(http.MethodGet, "/metrics", nil)
}
