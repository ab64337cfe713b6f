package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Errors of what an operator asks for at run time. Nothing is changed then.
var (
	// ErrInvalid tells that the wish itself makes no sense.
	ErrInvalid = errors.New("invalid")

	// ErrNoBackend tells that the cluster has no backend of that name.
	ErrNoBackend = errors.New("no such backend")

	// ErrConflict tells that the backend belongs to somebody else, or is what it is.
	ErrConflict = errors.New("conflict")
)

// policyGrace is how long a policy that was set at run time is kept after another has
// taken its place: statements may be asking it.
const policyGrace = 5 * time.Second

// CooldownError tells that the number of backends was changed a moment ago.
type CooldownError struct {
	// Wait is how long it is until the next change is allowed.
	Wait time.Duration
}

// Error says how long to wait.
func (e *CooldownError) Error() string {
	return fmt.Sprintf("the number of backends was changed a moment ago: wait %v, or force it", e.Wait.Round(time.Second))
}

// Origin is who named a backend.
type Origin uint8

// The origins.
const (
	OriginConfig Origin = iota // the configuration
	OriginAdmin                // the admin API, at run time
	OriginSource               // a source, such as docker
)

// String returns the word of the admin API.
func (o Origin) String() string {
	switch o {
	case OriginAdmin:
		return "admin"
	case OriginSource:
		return "source"
	case OriginConfig:
	}
	return "config"
}

// overrides are what operators have changed at run time on top of the settings in
// force. They are immutable: a change makes new ones. They belong to the cluster,
// so that reloads keep them.
type overrides struct {
	backends []Endpoint      // added, by name
	drained  map[string]bool // by name, whoever named the backend
	policy   any             // nil: that of the settings
	named    string          // the policy's name
}

var noOverrides = new(overrides)

// operator is the state of the operations of a cluster.
type operator struct {
	now atomic.Pointer[overrides] // nil: none

	sync.Mutex           // serialises changes
	changed    time.Time // when the number of backends was changed last
	release    func()    // frees the policy
	replaced   []*override
}

// override is a policy that another has taken the place of.
type override struct{ release func() }

// forget undoes everything. It returns what frees the policies, to be called without
// locks.
func (o *operator) forget() (release func()) {
	o.Lock()
	defer o.Unlock()
	o.now.Store(nil)
	last, replaced := o.release, o.replaced
	o.release, o.replaced, o.changed = nil, nil, time.Time{}
	return func() {
		for _, p := range replaced {
			p.release()
		}
		if last != nil {
			last()
		}
	}
}

// free releases a replaced policy, unless forget has it.
func (o *operator) free(p *override) {
	o.Lock()
	i := slices.Index(o.replaced, p)
	if i >= 0 {
		o.replaced = slices.Delete(o.replaced, i, i+1)
	}
	o.Unlock()
	if i >= 0 {
		p.release()
	}
}

// idle returns an error when no configuration is in force: what operators change then
// would come back with a later one. operator is locked.
func (c *Cluster) idle() error {
	if c.active.Load() == nil {
		return fmt.Errorf("%w: no configuration in force has cluster %s", ErrConflict, c.name)
	}
	return nil
}

func (o *operator) overrides() *overrides {
	if now := o.now.Load(); now != nil {
		return now
	}
	return noOverrides
}

// AddBackend makes an endpoint a backend until [Cluster.RemoveBackend], whatever
// is loaded meanwhile; it is lost when the process ends. Sources and later
// additions of the same name stand behind it; a configured backend of that name
// goes before it. The error wraps [ErrInvalid] or [ErrConflict], or is a
// [CooldownError] unless force is set.
func (c *Cluster) AddBackend(e Endpoint, force bool) error {
	address, err := checkEndpoint(&e)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	e.Address, e.found = address, true
	o := &c.operator
	o.Lock()
	defer o.Unlock()
	if err := c.idle(); err != nil {
		return err
	}
	if m := c.Topology().Member(e.Name); m != nil && !m.Leaving || c.configures(e.Name) || o.overrides().find(e.Name) >= 0 {
		return fmt.Errorf("%w: there is a backend %s: choose another name, or remove it first", ErrConflict, e.Name)
	}
	if err := c.cool(force); err != nil {
		return err
	}
	c.override(func(next *overrides) {
		next.backends = append(next.backends, e)
		slices.SortFunc(next.backends, func(a, b Endpoint) int { return strings.Compare(a.Name, b.Name) })
	})
	c.logger().Info("backend added by the admin API", zap.String("cluster", c.name), zap.String("backend", e.Name),
		zap.String("address", e.Address))
	return nil
}

// RemoveBackend takes a backend away that was added at run time. Transactions that
// run on it end; sessions that keep a connection of it get FATAL 57P01 after the
// drain timeout. The error wraps [ErrNoBackend] or [ErrConflict], or is a
// [CooldownError] unless force is set.
func (c *Cluster) RemoveBackend(name string, force bool) error {
	o := &c.operator
	o.Lock()
	defer o.Unlock()
	if err := c.idle(); err != nil {
		return err
	}
	i := o.overrides().find(name)
	switch m := c.Topology().Member(name); {
	case i >= 0:
	case m == nil || m.Leaving:
		return fmt.Errorf("%w %s", ErrNoBackend, name)
	case m.Origin == OriginSource:
		return fmt.Errorf("%w: backend %s was found by a source: take it away there, or drain it here", ErrConflict, name)
	default:
		return fmt.Errorf("%w: backend %s is in the configuration: DELETE /config/apps/postgres/clusters/%s/backends/%s removes it, or drain it here",
			ErrConflict, name, c.name, name)
	}
	if err := c.cool(force); err != nil {
		return err
	}
	c.override(func(next *overrides) {
		next.backends = slices.Delete(next.backends, i, i+1)
		delete(next.drained, name)
	})
	c.logger().Info("backend removed by the admin API", zap.String("cluster", c.name), zap.String("backend", name))
	return nil
}

// SetDrained takes a backend out of the reads, or back in, until the process ends, or
// an hour after the backend has left; one that has left can be resumed, too. What runs
// on it ends there. The primary cannot be drained: its writes have no other place. The error wraps [ErrNoBackend] or [ErrConflict].
func (c *Cluster) SetDrained(name string, drained bool) error {
	o := &c.operator
	o.Lock()
	defer o.Unlock()
	if err := c.idle(); err != nil {
		return err
	}
	m := c.Topology().Member(name)
	switch was := o.overrides().drained[name]; {
	case (m == nil || m.Leaving) && (drained || !was):
		return fmt.Errorf("%w %s", ErrNoBackend, name)
	case drained && m.Role == RolePrimary:
		return fmt.Errorf("%w: %s is the primary, and its writes have no other place: promote a replica first", ErrConflict, name)
	case drained == was:
		return nil
	}
	c.override(func(next *overrides) {
		if delete(next.drained, name); drained {
			next.drained[name] = true
		}
	})
	c.logger().Info("backend drained or resumed by the admin API", zap.String("cluster", c.name), zap.String("backend", name),
		zap.Bool("drained", drained))
	return nil
}

// forgetDrained undoes the drains of backends that have been away for long.
func (c *Cluster) forgetDrained(names []string) {
	if len(names) == 0 {
		return
	}
	c.operator.Lock()
	defer c.operator.Unlock()
	c.override(func(next *overrides) {
		for _, name := range names {
			delete(next.drained, name)
		}
	})
}

// OverridePolicy puts a policy in force in place of that of the settings, nil that
// of the settings again. release is called a while after the policy was replaced, or
// at the end of the last claim. The error wraps [ErrConflict]: there is no claim, and
// release is the caller's to call.
func (c *Cluster) OverridePolicy(name string, policy any, release func()) error {
	o := &c.operator
	o.Lock()
	if err := c.idle(); err != nil {
		o.Unlock()
		return err
	}
	before := &override{release: o.release}
	c.override(func(next *overrides) { next.policy, next.named = policy, name })
	if o.release = release; before.release != nil {
		o.replaced = append(o.replaced, before)
	}
	o.Unlock()
	c.do(func(ctx context.Context) {
		select {
		case <-time.After(policyGrace):
			o.free(before)
		case <-ctx.Done(): // the last claim was released: forget has it
		}
	})
	c.logger().Info("policy set by the admin API", zap.String("cluster", c.name), zap.String("policy", name))
	return nil
}

// Policy returns the policy in force: the one set at run time, else that of the
// settings, nil for the default. It costs two atomic loads.
func (c *Cluster) Policy() any {
	if now := c.operator.now.Load(); now != nil && now.policy != nil {
		return now.policy
	}
	return c.Settings().Policy
}

// OverriddenPolicy returns the name of the policy that was set at run time, "" when
// that of the settings is in force.
func (c *Cluster) OverriddenPolicy() string { return c.operator.overrides().named }

// Cooldown returns how long it is until the number of backends may be changed
// again, 0 when it may be now.
func (c *Cluster) Cooldown() time.Duration {
	c.operator.Lock()
	defer c.operator.Unlock()
	return c.wait()
}

// wait is Cooldown; operator is locked.
func (c *Cluster) wait() time.Duration {
	o := &c.operator
	if o.changed.IsZero() {
		return 0
	}
	return max(c.Settings().Cooldown-time.Since(o.changed), 0)
}

// cool begins the cooldown, unless the last one is not over; operator is locked.
func (c *Cluster) cool(force bool) error {
	if wait := c.wait(); wait > 0 && !force {
		c.metrics.cooldowns.Inc()
		return &CooldownError{Wait: wait}
	}
	c.operator.changed = time.Now()
	return nil
}

// override puts changed overrides in force; operator is locked.
func (c *Cluster) override(change func(next *overrides)) {
	before := c.operator.overrides()
	next := &overrides{
		backends: slices.Clone(before.backends), drained: maps.Clone(before.drained),
		policy: before.policy, named: before.named,
	}
	if next.drained == nil {
		next.drained = make(map[string]bool)
	}
	change(next)
	c.operator.now.Store(next)
	if r := c.active.Load(); r != nil {
		r.kick()
	}
	c.broadcast()
}

// configures tells whether the settings in force name the backend.
func (c *Cluster) configures(name string) bool {
	return slices.ContainsFunc(c.Settings().Backends, func(e Endpoint) bool { return e.Name == name })
}

func (o *overrides) find(name string) int {
	return slices.IndexFunc(o.backends, func(e Endpoint) bool { return e.Name == name })
}

// maxName bounds the name of a backend that does not come from the configuration.
const maxName = 128

// checkEndpoint returns the complete address of an endpoint, and what is wrong with
// it.
func checkEndpoint(e *Endpoint) (string, error) {
	switch {
	case strings.TrimSpace(e.Name) == "" || strings.ContainsAny(e.Name, "/ \t\r\n") || len(e.Name) > maxName:
		return "", fmt.Errorf("backend %.64q: the name must have 1 to %d bytes, without spaces and slashes", e.Name, maxName)
	case e.Address == "":
		return "", fmt.Errorf("backend %s: no address: write HOST:PORT", e.Name)
	case !(e.Weight >= 0) || e.Weight > maxWeight:
		return "", fmt.Errorf("backend %s: weight %v: write a share from 0 to %v, such as 2", e.Name, e.Weight, float64(maxWeight))
	}
	address, err := normalize(e.Address)
	if err != nil {
		return "", fmt.Errorf("backend %s: address: %w", e.Name, err)
	}
	return address, nil
}

// maxWeight bounds the weight given at run time.
const maxWeight = 1e6
