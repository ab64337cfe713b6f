package demo

import (
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	beCaddy()
	goleak.VerifyTestMain(m)
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	cases := map[string]struct {
		options Options
		want    string
	}{
		"the defaults":        {Options{Replicas: 2, Port: 6432, Load: 4}, ""},
		"too many replicas":   {Options{Replicas: 16}, "--replicas 16"},
		"less than none":      {Options{Replicas: -1}, "--replicas -1"},
		"a port out of range": {Options{Port: 65536}, "--port 65536"},
		"too much load":       {Options{Load: 65}, "--load 65"},
		"a negative time":     {Options{For: -1}, "--for -1ns"},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			err := tt.options.check()
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTakenPortIsRefusedAndFreeOnesAreFound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &demo{options: Options{Port: l.Addr().(*net.TCPAddr).Port}}
	if err := d.choosePorts(); err == nil || !strings.Contains(err.Error(), "--port") {
		t.Errorf("a taken port: %v", err)
	}
	d = &demo{options: Options{Admin: l.Addr().String()}}
	if err := d.choosePorts(); err == nil || !strings.Contains(err.Error(), "--admin") {
		t.Errorf("a taken admin address: %v", err)
	}
	d = &demo{}
	if err := d.choosePorts(); err != nil || d.addr == "" || d.admin == "" {
		t.Errorf("free ports: %+v, %v", d, err)
	}
}
