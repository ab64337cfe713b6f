package command

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairwaydb/fairway/modules/status"
	"github.com/fairwaydb/fairway/modules/terminal"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Shows the backends: role, state, score, lag, statements, pool; live on a terminal", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			interval, err := cmd.Flags().GetDuration("interval")
			if err != nil {
				return err
			}
			once, err := cmd.Flags().GetBool("once")
			if err != nil {
				return err
			}
			if interval < minInterval {
				return fmt.Errorf("--interval %v: want %v or more", interval, minInterval)
			}
			t, err := begin(cmd)
			if err != nil {
				return err
			}
			if t.json {
				return t.do(http.MethodGet, t.path(), nil, "")
			}
			ctx, stop := untilSignal()
			defer stop()
			return t.watch(ctx, interval, once)
		},
	}
	cmd.Flags().Duration("interval", time.Second, "Time between two looks")
	cmd.Flags().Bool("once", false, "Show the table once, after one interval, and end; so it is when the output is no terminal")
	return cmd
}

// minInterval bounds what the looking costs.
const minInterval = 100 * time.Millisecond

// watch shows the table until the context ends, or once.
func (t *task) watch(ctx context.Context, interval time.Duration, once bool) error {
	screen := terminal.NewScreen(t.cmd.OutOrStdout())
	once = once || !screen.Style.ANSI
	watcher := status.NewWatcher(t.cluster, t.metrics)
	if _, err := watcher.Rows(ctx); err != nil { // the counters from which rates are told
		return err
	}
	screen.Wrap(false)
	defer screen.Wrap(true)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			screen.Keep()
			return nil
		case <-tick.C:
		}
		lines, err := t.look(ctx, screen.Style, watcher)
		switch {
		case err != nil && once:
			return err
		case err != nil:
			lines = []string{screen.Style.Paint(err.Error(), terminal.Red)}
		}
		if once {
			screen.Say(lines...)
			return nil
		}
		screen.Show(lines)
	}
}

// look returns the lines of the table, with what is worth saying below it.
func (t *task) look(ctx context.Context, style terminal.Style, watcher *status.Watcher) ([]string, error) {
	rows, err := watcher.Rows(ctx)
	if err != nil {
		return nil, err
	}
	var c struct {
		Primary *string `json:"primary"`
		Policy  struct {
			Policy string `json:"policy"`
		} `json:"policy"`
		Consistency string  `json:"consistency"`
		Cooldown    float64 `json:"cooldown_seconds"`
		Backends    []struct {
			Name   string `json:"name"`
			Reason string `json:"reason"`
		} `json:"backends"`
	}
	if err := t.call(http.MethodGet, t.path(), nil, &c); err != nil {
		return nil, err
	}
	lines := status.Table(style, rows, "", nil)
	lines = append(lines, "", fmt.Sprintf("cluster %s, policy %s, consistency %s", t.cluster, c.Policy.Policy, c.Consistency))
	if c.Cooldown > 0 {
		lines[len(lines)-1] += fmt.Sprintf(", backends may be added or removed in %v", time.Duration(c.Cooldown*float64(time.Second)).Round(time.Second))
	}
	if c.Primary == nil {
		lines = append(lines, style.Paint("there is no primary", terminal.Red))
	}
	for _, b := range c.Backends {
		if b.Reason != "" {
			lines = append(lines, style.Paint(b.Name+": "+b.Reason, terminal.Yellow))
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the metrics at %s know no backend of cluster %s", t.address, t.cluster)
	}
	return lines, nil
}
