package demo

import (
	"context"
	"time"
)

const (
	// terminalPeriod is how often the table is drawn anew on a terminal, plainPeriod elsewhere.
	terminalPeriod = time.Second
	plainPeriod    = 5 * time.Second
	// oncePeriod is how long the load runs before the table of Options.Once is shown.
	oncePeriod = 3 * time.Second
)

// watch shows the table again and again until the context ends or the options say so.
func (d *demo) watch(ctx context.Context) {
	period := plainPeriod
	if d.screen.Style.ANSI {
		period = terminalPeriod
	}
	if d.options.Once {
		period = oncePeriod
	}
	if d.options.For > 0 {
		period = min(period, d.options.For)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.options.For)
		defer cancel()
	}
	d.screen.Wrap(false)
	defer d.screen.Wrap(true)
	_, _ = d.watcher.Rows(ctx) // the counters from which rates are told
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.screen.Show(d.look(ctx, now).lines(d.screen.Style))
			if d.options.Once {
				return
			}
		}
	}
}

// look gathers a view.
func (d *demo) look(ctx context.Context, now time.Time) view {
	v := view{load: d.load.summary(now), events: d.keeper.events()}
	rows, err := d.watcher.Rows(ctx)
	if err != nil {
		v.problem = err.Error()
	}
	for _, row := range rows {
		r := backendRow{Row: row}
		if n := d.cluster.Node(row.Name); n != nil {
			r.pid = n.PID()
		}
		v.backends = append(v.backends, r)
	}
	return v
}
