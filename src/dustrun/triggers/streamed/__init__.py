"""Triggers that listen on a connection that stays open."""
