package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Crowd is many connections.
type Crowd struct {
	Clients []*Client
}

// Arrival is how a crowd came in.
type Arrival struct {
	Elapsed time.Duration // until the last was in, or had failed
	Logins  []float64     // milliseconds each one took that came in, connecting included
	Failed  int
	First   error // the first failure
}

// Gather connects n clients, at most parallel of them at a time. Those that fail are counted; the caller closes the crowd.
func Gather(ctx context.Context, t Target, n, parallel int) (*Crowd, Arrival) {
	var (
		mu    sync.Mutex
		crowd Crowd
		a     Arrival
		wg    sync.WaitGroup
		left  atomic.Int64
	)
	left.Store(int64(n))
	began := time.Now()
	for range min(n, parallel) {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				c, err := Dial(ctx, t)
				took := float64(time.Since(start).Microseconds()) / 1000
				mu.Lock()
				if err != nil {
					a.Failed++
					a.First = firstOf(a.First, err)
				} else {
					crowd.Clients = append(crowd.Clients, c)
					a.Logins = append(a.Logins, took)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	a.Elapsed = time.Since(began)
	return &crowd, a
}

// Close closes all of them.
func (c *Crowd) Close() {
	for _, client := range c.Clients {
		_ = client.Close() // nothing is left to do when one was closed from the other side
	}
	c.Clients = nil
}

// Work is what each client does again and again; turn counts its calls from 0.
type Work func(c *Client, client, turn int) error

// Result is what a busy crowd has done.
type Result struct {
	Transactions int64
	TPS          float64
	Latencies    []float64 // microseconds
}

// Run lets all clients of the crowd work for a time. The first error of any ends it and is returned.
func (c *Crowd) Run(ctx context.Context, d time.Duration, work Work) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	latencies := make([][]float64, len(c.Clients))
	errs := make([]error, len(c.Clients))
	began := time.Now()
	for i, client := range c.Clients {
		wg.Go(func() {
			for turn := 0; ctx.Err() == nil; turn++ {
				start := time.Now()
				if err := work(client, i, turn); err != nil {
					errs[i] = fmt.Errorf("client %d, turn %d: %w", i, turn, err)
					cancel()
					return
				}
				latencies[i] = append(latencies[i], float64(time.Since(start).Nanoseconds())/1000)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	var r Result
	for _, l := range latencies {
		r.Latencies = append(r.Latencies, l...)
	}
	r.Transactions = int64(len(r.Latencies))
	r.TPS = float64(r.Transactions) / elapsed.Seconds()
	return r, nil
}

// Each lets every client do its work once, all at the same time.
func (c *Crowd) Each(work func(c *Client, client int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.Clients))
	for i, client := range c.Clients {
		wg.Go(func() { errs[i] = work(client, i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// firstOf returns the first error there is.
func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
