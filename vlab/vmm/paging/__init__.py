"""Paging strategies: how a guest's addresses reach host frames. A monitor is given one of them."""
