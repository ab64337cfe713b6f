package session

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A replica that has not replayed CREATE DATABASE yet refuses the login with 3D000; the primary knows better.
func TestALoginAReplicaRefusesIsTriedOnThePrimary(t *testing.T) {
	p := startProxy(t, pg, nil)
	admin := p.connect(t, "")
	for _, r := range pg.Replicas() {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.ResumeReplay(context.Background()) })
	}
	exec(t, admin, "create database fresh")
	config, err := pgx.ParseConfig("postgres://postgres@" + p.addr + "/fresh?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if name := value[string](t, c, "select current_database()"); name != "fresh" {
		t.Errorf("connected to %s", name)
	}
	_ = c.Close(t.Context())
	config.Database = "missing"
	_, err = pgx.ConnectConfig(t.Context(), config)
	sqlstate(t, err, "3D000")
}
