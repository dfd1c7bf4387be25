"use strict";(self.rspackChunkvlab=self.rspackChunkvlab||[]).push([[266],{646(a,e,r){var t=r(601),o=r.n(t),n=r(314),i=(r.n(n))()(o());i.push([a.id,`/* The side panel and the trace viewer. The views themselves bring common.css. */
.vlab-machines { padding: 8px; overflow: auto; color: var(--jp-ui-font-color1);
  background: var(--jp-layout-color1); font-size: var(--jp-ui-font-size1); }
.vlab-machines h2 { margin: 0 0 6px; font-size: var(--jp-ui-font-size1); font-weight: 600; }
.vlab-machines h3 { margin: 10px 0 4px; font-size: var(--jp-ui-font-size1); font-weight: 600;
  color: var(--jp-ui-font-color2); overflow-wrap: anywhere; }
.vlab-machines button { font: inherit; color: inherit; background: var(--jp-layout-color2); padding: 2px 8px;
  border: 1px solid var(--jp-border-color1); border-radius: 3px; cursor: pointer; }
.vlab-machines button:hover { border-color: var(--jp-brand-color1); }
.vlab-machines button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: 1px; }
.vlab-machines .vlab-bar { display: flex; flex-wrap: wrap; gap: 6px; }
.vlab-machines .vlab-bar[hidden] { display: none; }
.vlab-machines .vlab-entry { padding: 6px; margin-bottom: 6px; border: 1px solid var(--jp-border-color1);
  border-radius: 4px; }
.vlab-machines .vlab-head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 2px 8px; }
.vlab-machines button.vlab-name { padding: 0; border: 0; background: none; font-weight: 600; text-align: left;
  color: var(--jp-content-link-color, var(--jp-brand-color0));
  text-decoration: underline; overflow-wrap: anywhere; }
.vlab-machines .vlab-state { white-space: nowrap; }
.vlab-machines .vlab-facts { color: var(--jp-ui-font-color2); font-variant-numeric: tabular-nums; }
.vlab-machines .vlab-tools { display: flex; flex-wrap: wrap; gap: 4px; margin-top: 6px; }
.vlab-machines .vlab-tools button { display: grid; place-items: center; width: 28px; height: 26px;
  padding: 0; }
.vlab-machines .vlab-tools button span, .vlab-machines .vlab-tools svg { display: block; width: 16px;
  height: 16px; }
.vlab-machines .vlab-tools .jp-icon3 { fill: var(--jp-ui-font-color1); }
.vlab-machines .vlab-tools button[aria-disabled="true"] { cursor: default; background: none;
  border-color: var(--jp-border-color2); }
.vlab-machines .vlab-tools button[aria-disabled="true"] svg { opacity: 0.35; }
.vlab-machines .vlab-empty { color: var(--jp-ui-font-color2); }
.vlab-machines .vlab-status { margin-top: 8px; min-height: 1.4em; overflow-wrap: anywhere; }
.vlab-machines .vlab-problem { color: var(--jp-error-color0, #c62828); }
.vlab-dashboard { height: 100%; overflow: auto; padding: 8px; background: var(--jp-layout-color1); }
.vlab-trace { overflow: auto; padding: 8px; background: var(--jp-layout-color1); }
.vlab-trace > * + * { margin-top: 8px; }
.vlab-trace h2 { margin: 0 0 6px; font-size: 1.2em; }
.vlab-trace .vlab-summary { display: grid; grid-template-columns: max-content 1fr; gap: 2px 12px;
  margin: 0 0 10px; }
.vlab-trace .vlab-summary dt { color: var(--vlab-faint); }
.vlab-trace .vlab-summary dd { margin: 0; }
.vlab-trace caption { text-align: left; font-weight: 600; padding-bottom: 4px; }
.vlab-trace .vlab-amounts { width: 240px; vertical-align: middle; }
.vlab-trace .vlab-amount { height: 10px; background: var(--vlab-monitor); }
`,""]),r.d(e,{},{A:i})},314(a){a.exports=function(a){var e=[];return e.toString=function(){return this.map(function(e){var r="",t=void 0!==e[5];return e[4]&&(r+="@supports (".concat(e[4],") {")),e[2]&&(r+="@media ".concat(e[2]," {")),t&&(r+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),r+=a(e),t&&(r+="}"),e[2]&&(r+="}"),e[4]&&(r+="}"),r}).join("")},e.i=function(a,r,t,o,n){"string"==typeof a&&(a=[[null,a,void 0]]);var i={};if(t)for(var l=0;l<this.length;l++){var c=this[l][0];null!=c&&(i[c]=!0)}for(var s=0;s<a.length;s++){var p=[].concat(a[s]);t&&i[p[0]]||(void 0!==n&&(void 0===p[5]||(p[1]="@layer".concat(p[5].length>0?" ".concat(p[5]):""," {").concat(p[1],"}")),p[5]=n),r&&(p[2]&&(p[1]="@media ".concat(p[2]," {").concat(p[1],"}")),p[2]=r),o&&(p[4]?(p[1]="@supports (".concat(p[4],") {").concat(p[1],"}"),p[4]=o):p[4]="".concat(o)),e.push(p))}},e}},601(a){a.exports=function(a){return a[1]}},665(a,e,r){r.r(e);var t=r(72),o=r.n(t),n=r(825),i=r.n(n),l=r(659),c=r.n(l),s=r(56),p=r.n(s),v=r(540),u=r.n(v),d=r(113),b=r.n(d),f=r(646),m={};m.styleTagTransform=b(),m.setAttributes=p(),m.insert=c().bind(null,"head"),m.domAPI=i(),m.insertStyleElement=u(),o()(f.A,m);let h=f.A&&f.A.locals?f.A.locals:void 0;r.d(e,{},{default:h})},72(a){var e=[];function r(a){for(var r=-1,t=0;t<e.length;t++)if(e[t].identifier===a){r=t;break}return r}function t(a,t){for(var o={},n=[],i=0;i<a.length;i++){var l=a[i],c=t.base?l[0]+t.base:l[0],s=o[c]||0,p="".concat(c," ").concat(s);o[c]=s+1;var v=r(p),u={css:l[1],media:l[2],sourceMap:l[3],supports:l[4],layer:l[5]};if(-1!==v)e[v].references++,e[v].updater(u);else{var d=function(a,e){var r=e.domAPI(e);return r.update(a),function(e){e?(e.css!==a.css||e.media!==a.media||e.sourceMap!==a.sourceMap||e.supports!==a.supports||e.layer!==a.layer)&&r.update(a=e):r.remove()}}(u,t);t.byIndex=i,e.splice(i,0,{identifier:p,updater:d,references:1})}n.push(p)}return n}a.exports=function(a,o){var n=t(a=a||[],o=o||{});return function(a){a=a||[];for(var i=0;i<n.length;i++){var l=r(n[i]);e[l].references--}for(var c=t(a,o),s=0;s<n.length;s++){var p=r(n[s]);0===e[p].references&&(e[p].updater(),e.splice(p,1))}n=c}}},659(a){var e={};a.exports=function(a,r){var t=function(a){if(void 0===e[a]){var r=document.querySelector(a);if(window.HTMLIFrameElement&&r instanceof window.HTMLIFrameElement)try{r=r.contentDocument.head}catch(a){r=null}e[a]=r}return e[a]}(a);if(!t)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");t.appendChild(r)}},540(a){a.exports=function(a){var e=document.createElement("style");return a.setAttributes(e,a.attributes),a.insert(e,a.options),e}},56(a,e,r){a.exports=function(a){var e=r.nc;e&&a.setAttribute("nonce",e)}},825(a){a.exports=function(a){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=a.insertStyleElement(a);return{update:function(r){var t,o,n;t="",r.supports&&(t+="@supports (".concat(r.supports,") {")),r.media&&(t+="@media ".concat(r.media," {")),(o=void 0!==r.layer)&&(t+="@layer".concat(r.layer.length>0?" ".concat(r.layer):""," {")),t+=r.css,o&&(t+="}"),r.media&&(t+="}"),r.supports&&(t+="}"),(n=r.sourceMap)&&"u">typeof btoa&&(t+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(n))))," */")),a.styleTagTransform(t,e,a.options)},remove:function(){var a;null===(a=e).parentNode||a.parentNode.removeChild(a)}}}},113(a){a.exports=function(a,e){if(e.styleSheet)e.styleSheet.cssText=a;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(a))}}}}]);