package pgbench

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const summary = `pgbench (15.18)
transaction type: <builtin: select only>
scaling factor: 1
query mode: simple
number of clients: 16
number of threads: 2
duration: 3 s
number of transactions actually processed: 54321
number of failed transactions: 7 (0.012%)
latency average = 0.883 ms
initial connection time = 12.345 ms
tps = 18107.123456 (without initial connection time)
`

func TestTheSummaryIsRead(t *testing.T) {
	got, err := parseSummary(summary)
	if err != nil {
		t.Fatal(err)
	}
	if got.Transactions != 54321 || got.Failed != 7 || got.TPS != 18107.123456 {
		t.Errorf("got %+v", got)
	}
}

func TestASummaryWithoutItsNumbersIsAnError(t *testing.T) {
	for _, missing := range []string{"number of transactions actually processed: 54321\n", "tps = 18107.123456 (without initial connection time)\n"} {
		if got, err := parseSummary(strings.Replace(summary, missing, "", 1)); err == nil {
			t.Errorf("without %q: got %+v, want an error", missing, got)
		}
	}
}

func TestOlderVersionsCountNoFailedTransactions(t *testing.T) {
	got, err := parseSummary(strings.Replace(summary, "number of failed transactions: 7 (0.012%)\n", "", 1))
	if err != nil || got.Failed != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTheLogHasALatencyPerLine(t *testing.T) {
	log := "0 199 2241 0 1175850568 995598\n0 200 failed 0 1175850568 998079\n1 201 skipped 0 1175850569 608\n0 202 2059 0 1175850570 608 17\n"
	got, err := parseLog([]float64{1}, strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{1, 2241, 2059}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"0 199\n", "0 199 x 0 1 2\n"} {
		if _, err := parseLog(nil, strings.NewReader(bad)); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}

func TestArgumentsSayWhatIsAsked(t *testing.T) {
	o := Options{
		Addr: "127.0.0.1:6432", User: "u", Database: "d", Clients: 16, Mode: "prepared", Connect: true,
		Duration: 3 * time.Second, Sampling: 0.1, Script: "/s.sql",
	}
	args, err := o.arguments("/tmp/log")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(args, " ")
	for _, want := range []string{
		"--host 127.0.0.1 --port 6432", "--client 16 --jobs 2", "--time 3", "--protocol prepared",
		"--connect", "--file /s.sql", "--log-prefix /tmp/log", "--sampling-rate 0.1", "u --",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is missing in %s", want, line)
		}
	}
	if args[len(args)-1] != "d" {
		t.Errorf("the database is not last: %s", line)
	}
	o.Each = 20
	if args, err = o.arguments(""); err != nil || !strings.Contains(strings.Join(args, " "), "--transactions 20") || slices.Contains(args, "--time") {
		t.Errorf("got %q, %v; want 20 transactions and no time", args, err)
	}
	if _, err := (Options{Addr: "no port"}).arguments(""); err == nil {
		t.Error("an address without a port is no error")
	}
}
