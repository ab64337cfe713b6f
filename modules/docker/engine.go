package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// errStreamEnded says that the engine has closed the stream of events.
var errStreamEnded = errors.New("the engine has closed the stream of events")

// engine asks one Docker engine. It is safe for concurrent use. Its client is made
// on first use, and anew after a failure: the engine may have been replaced by
// another version, the certificates by new ones.
type engine struct {
	settings engineSettings

	mu struct {
		sync.Mutex
		client *client.Client // nil: to be made
	}
}

// engineSettings tell where an engine is. They are comparable: the same settings
// share a watcher.
type engineSettings struct {
	host          string // as in DOCKER_HOST
	ca, cert, key string // paths; empty: no TLS
	poll          time.Duration
	debounce      time.Duration
	timeout       time.Duration
}

// client makes a client; nothing is dialed.
func (s *engineSettings) client() (*client.Client, error) {
	options := []client.Opt{client.WithHost(s.host), client.WithUserAgent("fairway")}
	if s.ca != "" || s.cert != "" {
		options = append(options, client.WithTLSClientConfig(s.ca, s.cert, s.key))
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, fmt.Errorf("docker engine %s: %w", s.host, err)
	}
	return c, nil
}

// connect returns the client, made if need be. The version of the API is agreed
// on then: the least is 1.40, of Docker 19.03.
func (e *engine) connect(ctx context.Context) (*client.Client, error) {
	e.mu.Lock()
	c := e.mu.client
	e.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := e.settings.client()
	if err != nil {
		return nil, err
	}
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		c.Close()
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.client != nil { // somebody was faster
		c.Close()
		return e.mu.client, nil
	}
	e.mu.client = c
	return c, nil
}

// list implements feed.
func (e *engine) list(ctx context.Context) ([]container, error) {
	ctx, cancel := context.WithTimeout(ctx, e.settings.timeout)
	defer cancel()
	c, err := e.connect(ctx)
	if err != nil {
		return nil, e.failed(err)
	}
	// Without a filter for states the engine lists what runs, paused containers
	// included: whether those serve is told by the probe.
	result, err := c.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, e.failed(err)
	}
	all := make([]container, 0, len(result.Items))
	for i := range result.Items {
		if s := &result.Items[i]; s.ID != "" && s.State != "restarting" && s.State != "removing" && s.State != "dead" {
			all = append(all, read(s))
		}
	}
	return all, nil
}

// wanted are the events that may change what a source publishes. Without this
// filter each run of a health check would send three. A filter for labels would
// drop all events of networks.
func wanted() client.Filters {
	return make(client.Filters).
		Add("type", string(events.ContainerEventType), string(events.NetworkEventType)).
		Add("event", "start", "die", "stop", "kill", "pause", "unpause", "oom", "destroy", "rename", "update",
			"health_status", "connect", "disconnect")
}

// follow implements feed.
func (e *engine) follow(ctx context.Context, opened func(), tell func(event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := e.connect(ctx)
	if err != nil {
		return e.failed(err)
	}
	stream := c.Events(ctx, client.EventsListOptions{Filters: wanted()})
	defer func() { // the client's goroutine has ended when its channel is closed
		cancel()
		for range stream.Err {
		}
	}()
	select {
	case err := <-stream.Err:
		return e.failed(err)
	default:
		opened()
	}
	for {
		select {
		case m := <-stream.Messages:
			tell(readEvent(&m))
		case err := <-stream.Err:
			if err == nil {
				err = errStreamEnded
			}
			return e.failed(err)
		}
	}
}

// readEvent makes an event of what the engine says: "health_status: healthy" is a
// health_status.
func readEvent(m *events.Message) event {
	action, _, _ := strings.Cut(string(m.Action), ":")
	if m.Type != events.ContainerEventType {
		return event{action: action}
	}
	return event{action: action, container: m.Actor.ID, signal: m.Actor.Attributes["signal"]}
}

// failed gives the client up and says what to do about the failure.
func (e *engine) failed(err error) error {
	e.close()
	remedy := ""
	switch {
	case errors.Is(err, fs.ErrPermission), strings.Contains(err.Error(), "permission denied"):
		remedy = ": the process may not open the socket, run it in the socket's group (group_add in a compose file)"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		remedy = ": is the engine running there? Say where it is with host in docker_discovery, or with DOCKER_HOST"
	case errors.Is(err, context.DeadlineExceeded):
		remedy = ": it did not answer in time (timeout in docker_discovery)"
	case strings.Contains(err.Error(), "is not supported by this client"):
		remedy = ": Docker 19.03 is the oldest that can be asked"
	}
	return fmt.Errorf("ask docker engine %s: %w%s", e.settings.host, err, remedy)
}

// close implements feed.
func (e *engine) close() {
	e.mu.Lock()
	c := e.mu.client
	e.mu.client = nil
	e.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// Interface guard.
var _ feed = (*engine)(nil)
