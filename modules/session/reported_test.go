package session

import (
	"maps"
	"testing"
)

func TestAClientIsToldOtherwiseWithoutTheOthers(t *testing.T) {
	everybody := map[string]string{"TimeZone": "UTC", "in_hot_standby": "off"}
	before := maps.Clone(everybody)
	r := reported{shared: everybody}
	r.set("TimeZone", "UTC")
	if len(r.own) != 0 {
		t.Error("what everybody is told takes memory of the client's own")
	}
	for _, value := range []string{"Asia/Tokyo", "UTC", "Europe/Berlin"} {
		r.set("TimeZone", value)
		r.set("application_name", "app "+value)
		if got, ok := r.value("TimeZone"); !ok || got != value {
			t.Errorf("TimeZone is %q, %v; want %q", got, ok, value)
		}
		if got, ok := r.value("application_name"); !ok || got != "app "+value {
			t.Errorf("application_name is %q, %v", got, ok)
		}
	}
	if _, ok := r.value("unheard"); ok {
		t.Error("the client was told of a parameter nobody knows")
	}
	if !maps.Equal(everybody, before) {
		t.Error("the others are told it too")
	}
}
